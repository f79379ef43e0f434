// Everything that Step() decides upon. Rebuilt at start from the store, then advanced by mutations only.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/strings/string_view.h"
#include "server/scheduler/action.h"
#include "server/scheduler/ending.h"
#include "server/scheduler/holder.h"
#include "server/scheduler/job_table.h"
#include "server/scheduler/job_values.h"
#include "server/scheduler/queue_index.h"
#include "server/scheduler/slot_index.h"
#include "server/scheduler/types.h"

namespace p2::scheduler {

// Counters of SetCounters.
struct Counters {
  int64_t job_revision = 0, event_revision = 0, create_order = 0;
  bool operator==(const Counters&) const = default;
};

// Of ClusterState::Checkpoints.
std::tuple<int64_t, int64_t, std::string> KeyOf(const CheckpointRecord& checkpoint);

// Thread-compatible; the coordinator's loop thread owns the only one. What is iterated over is ordered: iteration
// decides.
class ClusterState {
 public:
  using Holders = absl::btree_map<std::string, Holder, std::less<>>;
  using Workers = std::map<std::string, WorkerPtr, std::less<>>;
  using Datasets = std::map<std::string, DatasetPtr, std::less<>>;
  using Queues = std::map<std::string, QueuePtr, std::less<>>;
  using Shares = std::map<std::string, ShareRecord, std::less<>>;
  using Quotas = std::map<std::string, QuotaRecord, std::less<>>;
  using Reservations = std::map<std::string, Reservation, std::less<>>;  // By job.
  using Checkpoints = scheduler::Checkpoints;
  // By (root ID, path).
  using Deletions = std::map<std::pair<std::string, std::string>, Deletion>;

  // Applies one mutation; those that hold nothing for decisions (AppendEvent, AppendMetrics …) change nothing.
  void Apply(const Mutation& mutation);

  // A finished job that an event names: visible to FindJob until the next DropFinished. The caller reads it from the
  // store.
  void LoadFinished(JobPtr job, const std::vector<CheckpointPtr>& checkpoints);
  void DropFinished();

  // Null if there is none. Finds live jobs and loaded finished ones.
  const JobPtr& FindJob(absl::string_view id) const;
  const WorkerPtr& FindWorker(absl::string_view id) const;
  const DatasetPtr& FindDataset(absl::string_view id) const;
  // Empty if there are none.
  const Checkpoints& CheckpointsOf(absl::string_view job) const;

  const JobTable& live_jobs() const { return live_jobs_; }
  // IDs of live jobs that hold or await devices on a worker: those with a live attempt that names it.
  const std::set<std::string>& JobsOn(absl::string_view worker) const;
  // IDs of live jobs that began from a checkpoint of job `source`. They go back to it if their own turn out damaged.
  const std::set<std::string>& ReadersOf(absl::string_view source) const;
  // IDs of workers that have the job among their failed_jobs.
  const std::set<std::string>& BrokeOn(absl::string_view job) const;
  // IDs of jobs that are STARTING, and of those with JobRecord.may_grow.
  const std::set<std::string>& starting_jobs() const { return starting_jobs_; }
  const std::set<std::string>& growing_jobs() const { return growing_jobs_; }
  // Jobs with a live attempt, by ID and as they are expected to end, and how many of them have a priority.
  const Holders& holders() const { return holders_; }
  const Endings& endings() const { return endings_; }
  const std::map<int, int>& held_priorities() const { return held_priorities_; }
  // Of the live jobs.
  const JobValues& job_values() const { return job_values_; }
  const QueueIndex& queue() const { return queue_; }
  const SlotIndex& slots() const { return slots_; }
  // Changes whenever a shape may have got other classes: classes came or went, or a queue has other workers.
  int64_t classes_generation() const { return slots_.generation() + queue_changes_; }
  // Devices held and jobs QUEUED or PAUSED, by `projects/{project}` and `users/{owner}`.
  int HeldBy(absl::string_view account) const { return CountOf(held_by_, account); }
  int QueuedBy(absl::string_view account) const { return CountOf(queued_by_, account); }
  const Queues& queues() const { return queues_; }
  // Of the queue's workers; empty for `default` and unknown ones.
  const std::map<std::string, std::string>& SelectorOf(absl::string_view queue) const;
  const Shares& shares() const { return shares_; }
  // With defaults if nothing is known of it.
  ShareRecord ShareOf(absl::string_view id) const;
  const Quotas& quotas() const { return quotas_; }
  const Reservations& reservations() const { return reservations_; }
  // Something changed that a scheduling pass has not seen: step SchedulePass until it is false.
  bool pass_due() const { return pass_need_ != PassNeed::kNone; }
  PassNeed pass_need() const { return pass_need_; }
  // Null before the first.
  const PassMemo* pass_memo() const { return pass_memo_.get(); }
  const Workers& workers() const { return workers_; }
  const Datasets& datasets() const { return datasets_; }
  const Deletions& deletions() const { return deletions_; }
  // Worker that was asked for a deletion last; empty before the first.
  const std::string& last_asked() const { return last_asked_; }
  const Counters& counters() const { return counters_; }
  bool disk_full() const { return disk_full_; }
  const std::string& disk_message() const { return disk_message_; }

 private:
  using Counts = std::map<std::string, int, std::less<>>;
  static int CountOf(const Counts& counts, absl::string_view account);

  void PutJobRecord(const JobPtr& job);
  void PutWorkerRecord(const WorkerPtr& worker);
  void PutHolder(const JobPtr& job);
  // Its newest checkpoint may be another one now.
  void Reprice(const std::string& job);
  // Enters the job into, or takes it out of, everything that is derived from live jobs.
  void Index(const JobPtr& job, bool add);
  void Count(Counts& counts, const JobRecord& job, int by);
  // `offer`: what the worker offers may have changed, not only what is held.
  void UpdateSlots(const std::string& worker, bool offer);

  JobTable live_jobs_, finished_jobs_;  // Finished: loaded ones only.
  Workers workers_;
  Datasets datasets_;
  std::map<std::string, Checkpoints, std::less<>> checkpoints_;
  Deletions deletions_;
  std::string last_asked_;
  Counters counters_;
  bool disk_full_ = false;
  std::string disk_message_;
  Queues queues_;
  Shares shares_;
  Quotas quotas_;
  Reservations reservations_;
  PassNeed pass_need_ = PassNeed::kNone;
  int64_t queue_changes_ = 0;
  std::shared_ptr<const PassMemo> pass_memo_;
  // Derived from live_jobs_ and workers_.
  std::map<std::string, std::set<std::string>, std::less<>> jobs_on_, readers_of_, broke_on_;
  std::set<std::string> starting_jobs_, growing_jobs_;
  Holders holders_;
  Endings endings_;
  std::map<int, int> held_priorities_;
  JobValues job_values_;
  QueueIndex queue_;
  SlotIndex slots_;
  Counts held_by_, queued_by_;
};

}  // namespace p2::scheduler
