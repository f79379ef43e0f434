// Holds what the core decided against what must never break (DESIGN.md 7). Sees events, results and the time, never how
// the core came to them: its book is made of the mutations and actions alone.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/scheduler/cluster_state.h"
#include "server/scheduler/event.h"
#include "server/scheduler/step.h"
#include "tests/server/scheduler/simulation/fake_store.h"

namespace p2::scheduler {

struct Violation {
  std::string invariant;  // `I5`.
  std::string what;
};

// Not thread-safe. Every event of every batch that was written, in order, goes through Observe.
class Checker {
 public:
  void Observe(const Event& event, const absl::StatusOr<StepResult>& result, const Moment& now);
  // The same from scratch: what p2d decides upon against what is stored and what it should hold.
  void CheckWhole(const ClusterState& state, const FakeStore& store);
  // Of those who see more than the checker does: what really ran on a node, say.
  void Violate(absl::string_view invariant, std::string what);

  // Nothing fails, nobody interferes, ranks go on at the rate that they told: what was predicted holds.
  void ExpectCalm() { calm_ = true; }
  // In a calm world: how many jobs had a prediction, and started.
  int64_t promises_kept() const { return promises_kept_; }

  const std::vector<Violation>& violations() const { return violations_; }

 private:
  struct SlotLease {
    std::string slot, job;
    int64_t epoch = 0;
    bool orphan = false;
  };
  struct WorkerBook {
    std::vector<SlotLease> leases;
    std::vector<Orphan> orphans;
    uint64_t spool_acked = 0;
    std::string spool_id;
  };
  struct JobBook {
    JobPtr created;  // As it was acknowledged.
    JobPtr last;     // As it was put last.
    JobPtr written;  // As it was put durably last.
    bool cancelled = false;
    std::vector<CheckpointPtr> checkpoints;  // By KeyOf, oldest first.
    // Failures since the last progress, and those of them that the budget pays for, by the checker's own count.
    int failures = 0, spent = 0;
    int64_t prepared_epoch = 0;  // Of which `prepared` holds the workers that said they are.
    std::vector<std::string> prepared;
    std::pair<int, uint64_t> metrics;  // Newest attempt and its newest sequence.
  };
  struct Request {
    std::string payload, answer;
  };

  // --- One function an invariant. Its sentence stands above it where it is written (checker_invariants.cc). ---
  void I1SubmitsStay(const JobBook& book, const JobRecord& job);
  void I1AnsweredSubmitIsWritten(const CreateJob& command, const StepResult& result);
  void I1OnlyEndedJobsGoOnRequest(const EraseJob& erase);
  void I2OneJobAKey(const CommandInfo& info, const StepResult& result);
  void I3EpochsRise(const JobBook& book, const PutJob& put);
  void I3DispatchIsWritten(const JobBook* book, absl::string_view job, int64_t epoch);
  void I3OneAssignmentAnEpoch(const JobBook& book, const Prepare& prepare);
  void I4EffectsAtTheHighestEpoch(const Mutation& mutation);
  void I5OneLeaseASlot(const StepResult& result);
  void I12ReservedIsKept(const StepResult& result);
  void I12StartsAsPredicted(const JobRecord& job);
  void OnlyLowerIsPreempted(const StepResult& result);
  void QuotaHolds(const StepResult& result);
  void I6EndedStaysEnded(const JobBook& book, const JobRecord& job);
  void I7NothingIsSentToCancelled(const JobBook& book, absl::string_view job);
  void I9ResumesFromTheNewestGood(const JobBook& book, const StartGang& start);
  void I10BudgetHolds(JobBook& book, const JobRecord& job);
  void GangStartsWhole(const JobBook& book, const StartGang& start);
  void MetricsOnceAndInOrder(const AppendMetrics& metrics);
  void RevisionsWithoutGaps(const EventRecord& event);
  void SpoolTakenInOrder(const SetSpoolAck& ack);
  void GoodCheckpointsAreKept(const JobBook& book, const CheckpointRecord& deleting);
  void WaitingHasAReason(const JobRecord& job);
  void HoldersAreOfNow(const ClusterState& state);
  void ALineWaitsForOneReason(const ClusterState& state);
  void CountsComeFromLeases(const ClusterState& state, const FakeStore& store);

  // --- The book. ---
  void TakeCommand(const Event& event, const StepResult& result);
  void Take(const Mutation& mutation);
  void TakeJob(const PutJob& put);
  void TakeCheckpoint(const CheckpointPtr& checkpoint);
  void TakeAction(const Action& action);
  void Release(absl::string_view worker, absl::string_view job, int64_t epoch, bool orphan);
  void Lease(absl::string_view worker, absl::string_view slot, absl::string_view job, int64_t epoch, bool orphan);
  JobBook* FindBook(absl::string_view job);
  // Devices that the job holds, by the checker's own book, and what counts them.
  void CountDevices(const JobRecord* before, const JobRecord* after);
  static int HeldBy(const JobRecord& job);
  bool AskedToDelete(const std::string& job) const;
  void CheckSlotsWhole(const ClusterState& state);
  void CheckJobWhole(const JobRecord& job, const ClusterState& state, const FakeStore& store);
  void CheckWorkerWhole(const WorkerRecord& worker, const ClusterState& state, const FakeStore& store);

  absl::flat_hash_map<std::string, JobBook> jobs_;
  absl::flat_hash_map<std::string, WorkerBook> workers_;
  absl::flat_hash_map<std::string, Request> requests_;
  absl::flat_hash_map<std::string, int> held_by_;  // `users/ann` and `projects/p`: devices.
  absl::flat_hash_map<std::string, QuotaRecord> quotas_;
  std::map<std::string, Reservation> reservations_;        // By job.
  absl::flat_hash_map<std::string, absl::Time> promised_;  // In a calm world: when the job was to start at the latest.
  int64_t promises_kept_ = 0;
  int64_t event_revision_ = 0;
  bool calm_ = false;
  std::vector<Violation> violations_;

  // Of the event that is looked at.
  const Event* event_ = nullptr;
  const SpoolReport* report_ = nullptr;  // Null if it is none.
  Moment now_;
  std::vector<CheckpointPtr> collected_;  // In it.
};

}  // namespace p2::scheduler
