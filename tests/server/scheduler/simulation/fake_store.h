// What p2d's database would hold: the durable mutations of every batch that was written. Keeps its records apart from
// ClusterState's, so that one can be held against the other.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "server/scheduler/cluster_state.h"

namespace p2::scheduler {

// Thread-compatible.
class FakeStore {
 public:
  // Those that live in memory only are passed over.
  void Apply(const Mutation& mutation);

  // What a starting p2d reads: live jobs with their checkpoints, workers, datasets, deletions, queues,
  // shares, quotas, counters.
  ClusterState Load() const;

  // Null if there is none. Finished ones too.
  JobPtr FindJob(absl::string_view id) const;
  WorkerPtr FindWorker(absl::string_view id) const;  // Less its spool_acked.
  uint64_t SpoolAcked(absl::string_view worker) const;
  // Oldest first; empty if there are none.
  std::vector<CheckpointPtr> CheckpointsOf(absl::string_view job) const;
  std::optional<RequestRecord> FindRequest(absl::string_view request_id) const;

  const ClusterState::Queues& queues() const { return queues_; }
  const ClusterState::Shares& shares() const { return shares_; }
  const ClusterState::Quotas& quotas() const { return quotas_; }
  size_t live_jobs() const { return live_.size(); }
  size_t deletions() const { return deletions_.size(); }
  size_t workers() const { return workers_.size(); }

 private:
  absl::btree_map<std::string, JobPtr, std::less<>> live_;
  absl::flat_hash_map<std::string, JobPtr> ended_;
  absl::flat_hash_map<std::string, ClusterState::Checkpoints> checkpoints_;  // By job.
  absl::flat_hash_map<std::string, WorkerPtr> workers_;
  absl::flat_hash_map<std::string, uint64_t> spool_acked_;  // By worker.
  absl::flat_hash_map<std::string, DatasetPtr> datasets_;
  absl::flat_hash_map<std::string, RequestRecord> requests_;
  ClusterState::Deletions deletions_;
  ClusterState::Queues queues_;
  ClusterState::Shares shares_;
  ClusterState::Quotas quotas_;
  Counters counters_;
};

}  // namespace p2::scheduler
