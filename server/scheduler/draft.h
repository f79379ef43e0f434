// What one Step() has changed so far, over the state that it began with.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "server/scheduler/step.h"

namespace p2::scheduler {

// Confined to one call of Step. Reads see the changes made before.
class Draft {
 public:
  template <typename Record>
  struct Changed {
    std::shared_ptr<Record> record;
    bool durable = false;
  };
  using ChangedJobs = absl::btree_map<std::string, Changed<JobRecord>, std::less<>>;  // By ID.

  Draft(const ClusterState& state, const Moment& now, const StepOptions& options);

  const ClusterState& base() const { return state_; }
  const Moment& now() const { return now_; }
  const StepOptions& options() const { return options_; }

  // Null if there is none. Valid until the next Edit or Touch of the same record.
  const JobRecord* Job(absl::string_view id) const;
  // The same of a record of base(), without looking for it there.
  const JobRecord* Now(const JobPtr& base) const {
    if (!IsChanged(base)) return base.get();
    const auto it = jobs_.find(base->id);
    return it == jobs_.end() ? base.get() : it->second.record.get();
  }
  bool IsChanged(const JobPtr& base) const { return changed_bases_.contains(base.get()); }
  JobRecord& TouchJob(const JobPtr& base);
  const WorkerRecord* Worker(absl::string_view id) const;
  // REQUIRES: the record exists. Edit: a durable change; Touch: one of volatile members only.
  JobRecord& EditJob(absl::string_view id);
  JobRecord& TouchJob(absl::string_view id);
  WorkerRecord& EditWorker(absl::string_view id);
  WorkerRecord& TouchWorker(absl::string_view id);
  void AddJob(JobRecord job);
  // Jobs added in this step under an account, `users/{owner}` or `projects/{project}`.
  int AddedBy(absl::string_view account) const;
  void AddWorker(WorkerRecord worker);
  void EraseJob(const std::string& id);

  // Jobs that this step has changed or made.
  const ChangedJobs& changed_jobs() const { return jobs_; }
  // Live jobs by ID, those of this draft included. Looks at all of them.
  std::vector<const JobRecord*> LiveJobs() const;
  // All workers by ID.
  std::vector<const WorkerRecord*> Workers() const;
  // Live jobs whose live attempt names the worker.
  std::vector<const JobRecord*> JobsOn(absl::string_view worker) const;

  const ClusterState::Checkpoints& CheckpointsOf(absl::string_view job) const;
  void PutCheckpoint(CheckpointRecord checkpoint);

  // Other mutations, written in this order after the records above.
  void Mutate(Mutation mutation) { others_.push_back(std::move(mutation)); }
  void Act(Action action) { result_.actions.push_back(std::move(action)); }
  void Event(std::string resource, absl::string_view reason, std::string message, absl::string_view actor = "p2d",
             std::string before = "", std::string after = "");
  // Whose request this step is about: its ID stands in the events.
  void set_request_id(std::string request_id) { request_id_ = std::move(request_id); }

  // The capacity or the queue changed: a scheduling pass is due.
  void RequestPass(PassNeed need = PassNeed::kFull) { pass_need_ = std::max(pass_need_, need); }
  // The pass itself ends with this; `again`: it made room that it has not given away yet.
  void PassDone(bool again) { pass_need_ = again ? PassNeed::kFull : PassNeed::kNone; }

  // Worker that was asked for a deletion last.
  const std::string& last_asked() const { return last_asked_; }
  void set_last_asked(std::string worker) { last_asked_ = std::move(worker); }

  int64_t NextCreateOrder() { return ++counters_.create_order; }
  void SkipRevisions(int64_t count) { counters_.job_revision += count; }
  void set_answer(std::string answer) { result_.answer = std::move(answer); }
  void set_refused(std::string why) { result_.refused = std::move(why); }

  StepResult Finish() &&;

 private:
  // Device time of the accounts whose jobs took or gave back devices, or saved a checkpoint.
  void ChargeShares();
  JobRecord& ChangeJob(absl::string_view id, const JobPtr& base, bool durable);

  const ClusterState& state_;
  const Moment now_;
  const StepOptions& options_;
  Counters counters_;
  ChangedJobs jobs_;
  absl::flat_hash_set<const JobRecord*> changed_bases_;  // Records of base() in whose place stands one of jobs_.
  std::map<std::string, Changed<WorkerRecord>, std::less<>> workers_;
  std::vector<std::string> erased_jobs_;
  std::map<std::string, ClusterState::Checkpoints, std::less<>> checkpoints_;  // All of a job of which one changed.
  std::vector<Mutation> others_;
  std::vector<EventRecord> events_;
  std::map<std::string, int, std::less<>> added_by_;
  JobValues added_values_;
  std::string request_id_, last_asked_;
  PassNeed pass_need_;
  StepResult result_;
};

// A broken invariant of ours: ends the process with the message.
[[noreturn]] void Bug(absl::string_view message);

}  // namespace p2::scheduler
