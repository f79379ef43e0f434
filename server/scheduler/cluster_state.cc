#include "server/scheduler/cluster_state.h"

#include <algorithm>
#include <memory>
#include <variant>

#include "absl/strings/str_cat.h"
#include "server/scheduler/placement.h"
#include "server/scheduler/shares.h"

namespace p2::scheduler {
namespace {

template <typename... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <typename... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

template <typename Map>
const typename Map::mapped_type& FindIn(const Map& map, absl::string_view id) {
  static const auto* const none = new typename Map::mapped_type;
  const auto it = map.find(id);
  return it == map.end() ? *none : it->second;
}

}  // namespace

std::tuple<int64_t, int64_t, std::string> KeyOf(const CheckpointRecord& checkpoint) {
  return {checkpoint.images_seen, checkpoint.epoch, checkpoint.id};
}

bool IsDurable(const Mutation& mutation) {
  return std::visit(
      Overloaded{[](const PutJob& put) { return put.durable; }, [](const PutWorker& put) { return put.durable; },
                 [](const PutDeletion& put) { return put.durable; }, [](const SetDiskFull&) { return false; },
                 [](const PutShare& put) { return put.durable; }, [](const PutReservation&) { return false; },
                 [](const EraseReservation&) { return false; }, [](const SetPassDue&) { return false; },
                 [](const PutPassMemo&) { return false; }, [](const auto&) { return true; }},
      mutation);
}

void ClusterState::Apply(const Mutation& mutation) {
  std::visit(Overloaded{[&](const PutJob& put) { PutJobRecord(put.job); },
                        [&](const EraseJob& erase) {
                          finished_jobs_.Erase(erase.job);
                          checkpoints_.erase(erase.job);
                        },
                        [&](const PutWorker& put) { PutWorkerRecord(put.worker); },
                        [&](const PutQueue& put) {
                          queues_[put.queue->id] = put.queue;
                          ++queue_changes_;
                        },
                        [&](const EraseQueue& erase) {
                          queues_.erase(erase.queue);
                          ++queue_changes_;
                        },
                        [&](const PutShare& put) { shares_[put.share.id] = put.share; },
                        [&](const PutQuota& put) { quotas_[put.quota.id] = put.quota; },
                        [&](const EraseQuota& erase) { quotas_.erase(erase.id); },
                        [&](const PutReservation& put) { reservations_[put.reservation.job] = put.reservation; },
                        [&](const EraseReservation& erase) { reservations_.erase(erase.job); },
                        [&](const SetPassDue& set) { pass_need_ = set.need; },
                        [&](const PutPassMemo& put) { pass_memo_ = put.memo; },
                        [&](const PutDataset& put) { datasets_[put.dataset->id] = put.dataset; },
                        [&](const PutCheckpoint& put) {
                          checkpoints_[put.checkpoint->job][KeyOf(*put.checkpoint)] = put.checkpoint;
                          Reprice(put.checkpoint->job);
                        },
                        [&](const EraseCheckpoint& erase) {
                          auto of_job = checkpoints_.find(erase.job);
                          if (of_job == checkpoints_.end()) return;
                          std::erase_if(of_job->second,
                                        [&](const auto& entry) { return entry.second->id == erase.checkpoint; });
                          if (of_job->second.empty()) checkpoints_.erase(of_job);
                          Reprice(erase.job);
                        },
                        [&](const PutDeletion& put) {
                          deletions_[{put.deletion.root_id, put.deletion.path}] = put.deletion;
                          if (!put.deletion.asked.empty()) last_asked_ = put.deletion.asked;
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
                        [](const PutSpec&) {},
                        [](const PutArtifact&) {},
                        [](const AppendEvent&) {},
                        [](const PutRequest&) {},
                        [](const AppendMetrics&) {},
                        [](const SupersedeMetrics&) {}},
             mutation);
}

namespace {

// Whether the same slots are held under both records.
bool HoldSameSlots(const JobRecord& a, const JobRecord& b) {
  const Attempt *of_a = a.live_attempt(), *of_b = b.live_attempt();
  if (of_a == nullptr || of_b == nullptr) return of_a == of_b;
  return of_a->epoch == of_b->epoch && of_a->members == of_b->members;
}

// Whether two records of a QUEUED job differ in nothing that is derived from them, but in what they say why it waits.
bool StandAlike(const JobRecord& a, const JobRecord& b) {
  return a.state == JobState::kQueued && b.state == JobState::kQueued && a.ready_mono == b.ready_mono &&
         a.priority == b.priority && a.order_key == b.order_key && a.details == b.details &&
         a.latest_checkpoint == b.latest_checkpoint && a.may_grow == b.may_grow &&
         a.numerics_device == b.numerics_device && a.numerics_version == b.numerics_version && a.needs == b.needs;
}

// The same of a job with devices: whether they differ in nothing but how far it has come.
bool RunAlike(const JobRecord& a, const JobRecord& b) {
  return a.state == b.state && a.live_attempt() != nullptr && HoldSameSlots(a, b) && a.priority == b.priority &&
         a.details == b.details && a.latest_checkpoint == b.latest_checkpoint && a.may_grow == b.may_grow &&
         a.needs == b.needs;
}

bool OfferSameSlots(const WorkerRecord& a, const WorkerRecord& b) {
  const auto same_root = [](const RootRecord& x, const RootRecord& y) { return x.name == y.name && x.id == y.id; };
  return TakesGangs(a) == TakesGangs(b) && a.slots == b.slots && a.orphans == b.orphans && a.version == b.version &&
         a.labels == b.labels && std::equal(a.roots.begin(), a.roots.end(), b.roots.begin(), b.roots.end(), same_root);
}

}  // namespace

void ClusterState::PutJobRecord(const JobPtr& job) {
  const JobPtr old = live_jobs_.Find(job->id);
  if (old != nullptr) {
    if (StandAlike(*old, *job)) {
      live_jobs_.Put(job);
      return queue_.Told(*job);
    }
    if (RunAlike(*old, *job)) {
      endings_.erase(Ending::Of(old));
      endings_.insert(Ending::Of(job));
      PutHolder(job);
      live_jobs_.Put(job);
      return;
    }
    Index(old, false);
  } else if (!IsTerminal(job->state)) {
    job_values_.Remember(*job);
  }
  if (IsTerminal(job->state)) {
    live_jobs_.Erase(job->id);
    finished_jobs_.Put(job);
  } else {
    live_jobs_.Put(job);
    Index(job, true);
  }
  if (old != nullptr && HoldSameSlots(*old, *job)) return;
  std::set<std::string> workers;
  for (const JobRecord* record : {old.get(), job.get()}) {
    if (record == nullptr || record->live_attempt() == nullptr) continue;
    for (const Member& member : record->live_attempt()->members) workers.insert(member.worker);
  }
  for (const std::string& worker : workers) UpdateSlots(worker, /*offer=*/false);
}

void ClusterState::PutWorkerRecord(const WorkerPtr& worker) {
  WorkerPtr& entry = workers_[worker->id];
  const WorkerPtr old = std::exchange(entry, worker);
  for (const std::string& job : old == nullptr ? std::vector<std::string>() : old->failed_jobs) {
    const auto broke = broke_on_.find(job);
    broke->second.erase(worker->id);
    if (broke->second.empty()) broke_on_.erase(broke);
  }
  for (const std::string& job : worker->failed_jobs) broke_on_[job].insert(worker->id);
  if (old == nullptr || !OfferSameSlots(*old, *worker)) UpdateSlots(worker->id, /*offer=*/true);
}

void ClusterState::UpdateSlots(const std::string& id, bool offer) {
  const WorkerPtr worker = FindWorker(id);
  if (worker == nullptr) return;
  std::vector<const JobRecord*> jobs;
  for (const std::string& job : JobsOn(id)) jobs.push_back(live_jobs_.Find(job).get());
  const std::set<std::string> held = HeldSlots(*worker, jobs);
  return offer ? slots_.Update(*worker, held) : slots_.UpdateHeld(*worker, held);
}

void ClusterState::Count(Counts& counts, const JobRecord& job, int by) {
  if (by == 0) return;
  for (std::string account :
       {absl::StrCat("projects/", job.details->project), absl::StrCat("users/", job.details->owner)}) {
    const auto it = counts.emplace(std::move(account), 0).first;
    it->second += by;
    if (it->second == 0) counts.erase(it);
  }
}

int ClusterState::CountOf(const Counts& counts, absl::string_view account) {
  const auto it = counts.find(account);
  return it == counts.end() ? 0 : it->second;
}

void ClusterState::PutHolder(const JobPtr& job) {
  Holder& holder = holders_[job->id];
  holder = Holder::Of(*job, CheckpointsOf(job->id));
  holder.job = job;
}

void ClusterState::Reprice(const std::string& job) {
  if (const auto holder = holders_.find(job); holder != holders_.end()) PutHolder(JobPtr(holder->second.job));
}

void ClusterState::Index(const JobPtr& record, bool add) {
  const JobRecord& job = *record;
  const auto enter = [&](std::set<std::string>& ids) {
    if (add) {
      ids.insert(job.id);
    } else {
      ids.erase(job.id);
    }
  };
  if (const Attempt* attempt = job.live_attempt(); attempt != nullptr) {
    for (const Member& member : attempt->members) enter(jobs_on_[member.worker]);
    Count(held_by_, job, (add ? 1 : -1) * HeldDevices(job));
    if (add) {
      PutHolder(record);
      endings_.insert(Ending::Of(record));
    } else {
      holders_.erase(job.id);
      endings_.erase(Ending::Of(record));
    }
    if ((held_priorities_[job.priority] += add ? 1 : -1) == 0) held_priorities_.erase(job.priority);
  }
  if (!job.needs->source.job.empty()) enter(readers_of_[job.needs->source.job]);
  if (job.state == JobState::kStarting) enter(starting_jobs_);
  if (job.may_grow) enter(growing_jobs_);
  if (job.state == JobState::kQueued || job.state == JobState::kPaused) Count(queued_by_, job, add ? 1 : -1);
  if (job.state != JobState::kQueued) return;
  if (add) {
    queue_.Add(job);
  } else {
    queue_.Remove(job);
  }
}

void ClusterState::LoadFinished(JobPtr job, const std::vector<CheckpointPtr>& checkpoints) {
  for (const CheckpointPtr& checkpoint : checkpoints) checkpoints_[job->id][KeyOf(*checkpoint)] = checkpoint;
  finished_jobs_.Put(std::move(job));
}

void ClusterState::DropFinished() {
  if (finished_jobs_.empty()) return;
  for (const JobPtr& job : finished_jobs_.All()) checkpoints_.erase(job->id);
  finished_jobs_.Clear();
}

const JobPtr& ClusterState::FindJob(absl::string_view id) const {
  const JobPtr& job = live_jobs_.Find(id);
  return job != nullptr ? job : finished_jobs_.Find(id);
}

const WorkerPtr& ClusterState::FindWorker(absl::string_view id) const { return FindIn(workers_, id); }
const DatasetPtr& ClusterState::FindDataset(absl::string_view id) const { return FindIn(datasets_, id); }

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

const std::set<std::string>& ClusterState::ReadersOf(absl::string_view source) const {
  static const std::set<std::string>* const none = new std::set<std::string>;
  auto it = readers_of_.find(source);
  return it == readers_of_.end() ? *none : it->second;
}

const std::set<std::string>& ClusterState::BrokeOn(absl::string_view job) const {
  static const std::set<std::string>* const none = new std::set<std::string>;
  auto it = broke_on_.find(job);
  return it == broke_on_.end() ? *none : it->second;
}

const std::map<std::string, std::string>& ClusterState::SelectorOf(absl::string_view queue) const {
  static const auto* const none = new std::map<std::string, std::string>;
  const auto it = queues_.find(queue);
  return it == queues_.end() ? *none : it->second->selector;
}

ShareRecord ClusterState::ShareOf(absl::string_view id) const {
  const auto it = shares_.find(id);
  if (it != shares_.end()) return it->second;
  ShareRecord share;
  share.id = std::string(id);
  return share;
}

}  // namespace p2::scheduler
