#include "tests/server/scheduler/simulation/fake_store.h"

#include <algorithm>
#include <memory>
#include <type_traits>
#include <variant>

namespace p2::scheduler {
namespace {

template <typename Map>
std::vector<const typename Map::value_type*> InOrder(const Map& map) {
  std::vector<const typename Map::value_type*> entries;
  for (const auto& entry : map) entries.push_back(&entry);
  std::sort(entries.begin(), entries.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
  return entries;
}

template <typename Map>
typename Map::mapped_type FindIn(const Map& map, absl::string_view id) {
  const auto it = map.find(id);
  return it == map.end() ? nullptr : it->second;
}

}  // namespace

void FakeStore::Apply(const Mutation& mutation) {
  if (!IsDurable(mutation)) return;
  std::visit(
      [&](const auto& it) {
        using M = std::decay_t<decltype(it)>;
        if constexpr (std::is_same_v<M, PutJob>) {
          if (IsTerminal(it.job->state)) {
            live_.erase(it.job->id);
            ended_[it.job->id] = it.job;
          } else {
            live_[it.job->id] = it.job;
          }
        } else if constexpr (std::is_same_v<M, EraseJob>) {
          ended_.erase(it.job);
          checkpoints_.erase(it.job);
        } else if constexpr (std::is_same_v<M, PutWorker>) {
          workers_[it.worker->id] = it.worker;
          spool_acked_[it.worker->id] = it.worker->spool_acked;
        } else if constexpr (std::is_same_v<M, PutDataset>) {
          datasets_[it.dataset->id] = it.dataset;
        } else if constexpr (std::is_same_v<M, PutCheckpoint>) {
          checkpoints_[it.checkpoint->job][KeyOf(*it.checkpoint)] = it.checkpoint;
        } else if constexpr (std::is_same_v<M, EraseCheckpoint>) {
          const auto of_job = checkpoints_.find(it.job);
          if (of_job == checkpoints_.end()) return;
          std::erase_if(of_job->second, [&](const auto& entry) { return entry.second->id == it.checkpoint; });
        } else if constexpr (std::is_same_v<M, PutDeletion>) {
          deletions_[{it.deletion.root_id, it.deletion.path}] = it.deletion;
        } else if constexpr (std::is_same_v<M, EraseDeletion>) {
          deletions_.erase({it.root_id, it.path});
        } else if constexpr (std::is_same_v<M, PutQueue>) {
          queues_[it.queue->id] = it.queue;
        } else if constexpr (std::is_same_v<M, EraseQueue>) {
          queues_.erase(it.queue);
        } else if constexpr (std::is_same_v<M, PutShare>) {
          shares_[it.share.id] = it.share;
        } else if constexpr (std::is_same_v<M, PutQuota>) {
          quotas_[it.quota.id] = it.quota;
        } else if constexpr (std::is_same_v<M, EraseQuota>) {
          quotas_.erase(it.id);
        } else if constexpr (std::is_same_v<M, PutRequest>) {
          requests_[it.request.request_id] = it.request;
        } else if constexpr (std::is_same_v<M, SetSpoolAck>) {
          spool_acked_[it.worker] = it.sequence;
        } else if constexpr (std::is_same_v<M, SetCounters>) {
          counters_ = {it.job_revision, it.event_revision, it.create_order};
        }
      },
      mutation);
}

ClusterState FakeStore::Load() const {
  ClusterState state;
  for (const auto* entry : InOrder(workers_)) {
    auto worker = std::make_shared<WorkerRecord>(*entry->second);
    worker->spool_acked = SpoolAcked(entry->first);
    state.Apply(PutWorker{std::move(worker)});
  }
  for (const auto* dataset : InOrder(datasets_)) state.Apply(PutDataset{dataset->second});
  for (const auto& [id, job] : live_) {
    state.Apply(PutJob{job});
    for (const CheckpointPtr& checkpoint : CheckpointsOf(id)) state.Apply(PutCheckpoint{checkpoint});
  }
  for (const auto& [id, queue] : queues_) state.Apply(PutQueue{queue});
  for (const auto& [id, share] : shares_) state.Apply(PutShare{share});
  for (const auto& [id, quota] : quotas_) state.Apply(PutQuota{quota});
  for (const auto& [key, deletion] : deletions_) state.Apply(PutDeletion{deletion});
  state.Apply(SetCounters{counters_.job_revision, counters_.event_revision, counters_.create_order});
  return state;
}

JobPtr FakeStore::FindJob(absl::string_view id) const {
  const JobPtr live = FindIn(live_, id);
  return live != nullptr ? live : FindIn(ended_, id);
}
WorkerPtr FakeStore::FindWorker(absl::string_view id) const { return FindIn(workers_, id); }

uint64_t FakeStore::SpoolAcked(absl::string_view worker) const {
  const auto it = spool_acked_.find(worker);
  return it == spool_acked_.end() ? 0 : it->second;
}

std::vector<CheckpointPtr> FakeStore::CheckpointsOf(absl::string_view job) const {
  std::vector<CheckpointPtr> checkpoints;
  const auto it = checkpoints_.find(job);
  if (it == checkpoints_.end()) return checkpoints;
  for (const auto& [key, checkpoint] : it->second) checkpoints.push_back(checkpoint);
  return checkpoints;
}

std::optional<RequestRecord> FakeStore::FindRequest(absl::string_view request_id) const {
  const auto it = requests_.find(request_id);
  if (it == requests_.end()) return std::nullopt;
  return it->second;
}

}  // namespace p2::scheduler
