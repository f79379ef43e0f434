// Everything that Step() decides upon. Rebuilt at start from the store, then advanced by mutations only.
#pragma once

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/scheduler/action.h"
#include "server/scheduler/types.h"

namespace p2::scheduler {

// Counters of SetCounters.
struct Counters {
  int64_t job_revision = 0, event_revision = 0, create_order = 0;
  bool operator==(const Counters&) const = default;
};

// Of ClusterState::Checkpoints.
std::tuple<int64_t, int64_t, std::string> KeyOf(const CheckpointRecord& checkpoint);

// Thread-compatible; the coordinator's loop thread owns the only one. Ordered containers throughout: iteration decides.
class ClusterState {
 public:
  using Jobs = std::map<std::string, JobPtr, std::less<>>;
  using Workers = std::map<std::string, WorkerPtr, std::less<>>;
  using Datasets = std::map<std::string, DatasetPtr, std::less<>>;
  // Of one job by (images seen, epoch, ID): oldest first.
  using Checkpoints = std::map<std::tuple<int64_t, int64_t, std::string>, CheckpointPtr>;
  // By (root ID, path).
  using Deletions = std::map<std::pair<std::string, std::string>, Deletion>;

  // Applies one mutation; those that hold nothing for decisions (AppendEvent, AppendMetrics …) change nothing.
  void Apply(const Mutation& mutation);

  // A finished job that an event names: visible to FindJob until the next DropFinished. The caller reads it from the
  // store.
  void LoadFinished(JobPtr job, const std::vector<CheckpointPtr>& checkpoints);
  void DropFinished();

  // Null if there is none. Finds live jobs and loaded finished ones.
  JobPtr FindJob(absl::string_view id) const;
  WorkerPtr FindWorker(absl::string_view id) const;
  DatasetPtr FindDataset(absl::string_view id) const;
  // Empty if there are none.
  const Checkpoints& CheckpointsOf(absl::string_view job) const;

  const Jobs& live_jobs() const { return live_jobs_; }
  const Jobs& finished_jobs() const { return finished_jobs_; }  // Loaded ones only.
  // IDs of live jobs that hold or await devices on a worker: those with a live attempt that names it.
  const std::set<std::string>& JobsOn(absl::string_view worker) const;
  const Workers& workers() const { return workers_; }
  const Datasets& datasets() const { return datasets_; }
  const Deletions& deletions() const { return deletions_; }
  const Counters& counters() const { return counters_; }
  bool disk_full() const { return disk_full_; }
  const std::string& disk_message() const { return disk_message_; }

 private:
  void PutJobRecord(const JobPtr& job);
  void IndexAttempt(const JobRecord& job, bool add);

  Jobs live_jobs_, finished_jobs_;
  Workers workers_;
  Datasets datasets_;
  std::map<std::string, Checkpoints, std::less<>> checkpoints_;
  Deletions deletions_;
  Counters counters_;
  bool disk_full_ = false;
  std::string disk_message_;
  // Derived from the live attempts of live_jobs_.
  std::map<std::string, std::set<std::string>, std::less<>> jobs_on_;
};

}  // namespace p2::scheduler
