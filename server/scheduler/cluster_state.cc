#include "server/scheduler/cluster_state.h"

#include <memory>
#include <variant>

namespace p2::scheduler {
namespace {

template <typename... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <typename... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

template <typename Map>
typename Map::mapped_type FindIn(const Map& map, absl::string_view id) {
  auto it = map.find(id);
  return it == map.end() ? nullptr : it->second;
}

}  // namespace

std::tuple<int64_t, int64_t, std::string> KeyOf(const CheckpointRecord& checkpoint) {
  return {checkpoint.images_seen, checkpoint.epoch, checkpoint.id};
}

bool IsDurable(const Mutation& mutation) {
  return std::visit(
      Overloaded{[](const PutJob& put) { return put.durable; }, [](const PutWorker& put) { return put.durable; },
                 [](const PutDeletion& put) { return put.durable; }, [](const SetDiskFull&) { return false; },
                 [](const auto&) { return true; }},
      mutation);
}

void ClusterState::Apply(const Mutation& mutation) {
  std::visit(
      Overloaded{
          [&](const PutJob& put) { PutJobRecord(put.job); },
          [&](const EraseJob& erase) {
            finished_jobs_.erase(erase.job);
            checkpoints_.erase(erase.job);
          },
          [&](const PutWorker& put) { workers_[put.worker->id] = put.worker; },
          [&](const PutDataset& put) { datasets_[put.dataset->id] = put.dataset; },
          [&](const PutCheckpoint& put) { checkpoints_[put.checkpoint->job][KeyOf(*put.checkpoint)] = put.checkpoint; },
          [&](const EraseCheckpoint& erase) {
            auto of_job = checkpoints_.find(erase.job);
            if (of_job == checkpoints_.end()) return;
            std::erase_if(of_job->second, [&](const auto& entry) { return entry.second->id == erase.checkpoint; });
            if (of_job->second.empty()) checkpoints_.erase(of_job);
          },
          [&](const PutDeletion& put) {
            deletions_[{put.deletion.root_id, put.deletion.path}] = put.deletion;
          },
          [&](const EraseDeletion& erase) {
            deletions_.erase({erase.root_id, erase.path});
          },
          [&](const SetSpoolAck& ack) {
            auto worker = std::make_shared<WorkerRecord>(*workers_.at(ack.worker));
            worker->spool_acked = ack.sequence;
            workers_[ack.worker] = std::move(worker);
          },
          [&](const SetCounters& set) {
            counters_ = {set.job_revision, set.event_revision, set.create_order};
          },
          [&](const SetDiskFull& set) {
            disk_full_ = set.full;
            disk_message_ = set.message;
          },
          [](const PutSpec&) {}, [](const PutArtifact&) {}, [](const AppendEvent&) {}, [](const PutRequest&) {},
          [](const AppendMetrics&) {}, [](const SupersedeMetrics&) {}},
      mutation);
}

void ClusterState::PutJobRecord(const JobPtr& job) {
  if (auto old = live_jobs_.find(job->id); old != live_jobs_.end()) IndexAttempt(*old->second, false);
  if (IsTerminal(job->state)) {
    live_jobs_.erase(job->id);
    finished_jobs_[job->id] = job;
    return;
  }
  live_jobs_[job->id] = job;
  IndexAttempt(*job, true);
}

void ClusterState::IndexAttempt(const JobRecord& job, bool add) {
  const Attempt* attempt = job.live_attempt();
  if (attempt == nullptr) return;
  for (const Member& member : attempt->members) {
    if (add) {
      jobs_on_[member.worker].insert(job.id);
    } else {
      jobs_on_[member.worker].erase(job.id);
    }
  }
}

void ClusterState::LoadFinished(JobPtr job, const std::vector<CheckpointPtr>& checkpoints) {
  for (const CheckpointPtr& checkpoint : checkpoints) checkpoints_[job->id][KeyOf(*checkpoint)] = checkpoint;
  finished_jobs_[job->id] = std::move(job);
}

void ClusterState::DropFinished() {
  for (const auto& [id, job] : finished_jobs_) checkpoints_.erase(id);
  finished_jobs_.clear();
}

JobPtr ClusterState::FindJob(absl::string_view id) const {
  JobPtr job = FindIn(live_jobs_, id);
  return job != nullptr ? job : FindIn(finished_jobs_, id);
}

WorkerPtr ClusterState::FindWorker(absl::string_view id) const { return FindIn(workers_, id); }
DatasetPtr ClusterState::FindDataset(absl::string_view id) const { return FindIn(datasets_, id); }

const ClusterState::Checkpoints& ClusterState::CheckpointsOf(absl::string_view job) const {
  static const Checkpoints* const none = new Checkpoints;
  auto it = checkpoints_.find(job);
  return it == checkpoints_.end() ? *none : it->second;
}

const std::set<std::string>& ClusterState::JobsOn(absl::string_view worker) const {
  static const std::set<std::string>* const none = new std::set<std::string>;
  auto it = jobs_on_.find(worker);
  return it == jobs_on_.end() ? *none : it->second;
}

}  // namespace p2::scheduler
