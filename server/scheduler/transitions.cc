#include "absl/strings/str_cat.h"
#include "server/scheduler/decisions.h"

namespace p2::scheduler {

std::string JobName(absl::string_view id) { return absl::StrCat("jobs/", id); }
std::string WorkerName(absl::string_view id) { return absl::StrCat("workers/", id); }

absl::string_view ReasonName(StatusReason reason) {
  static constexpr absl::string_view kNames[] = {"STATUS_REASON_UNSPECIFIED",
                                                 "WAITING_FOR_DEVICES",
                                                 "NOT_ENOUGH_DEVICES",
                                                 "ROOT_NOT_VISIBLE",
                                                 "BACKOFF",
                                                 "GANG_FORMING",
                                                 "PAUSED_BY_USER",
                                                 "STOPPED_BY_USER",
                                                 "KILLED_BY_USER",
                                                 "COMPLETED",
                                                 "RANK_DIED",
                                                 "RANK_FROZEN",
                                                 "WORKER_LOST",
                                                 "WORKER_STOPPED",
                                                 "COMMUNICATION",
                                                 "DEVICE_ERROR",
                                                 "OUT_OF_MEMORY",
                                                 "NUMERIC",
                                                 "DATA",
                                                 "STORAGE",
                                                 "BAD_SPEC",
                                                 "RESTART_BUDGET_SPENT",
                                                 "GANG_NOT_FORMED",
                                                 "DISK_FULL",
                                                 "WORKER_DRAINED",
                                                 "QUOTA_EXCEEDED",
                                                 "PREEMPTED",
                                                 "RESERVED",
                                                 "YIELDED",
                                                 "RESIZING"};
  return kNames[static_cast<int>(reason)];
}

namespace {

// Whether a pass has to look at the queue once this job has moved. What its attempt held is asked for as its members
// end.
bool MattersToOthers(const ClusterState& state, const JobRecord& job, bool waited) {
  if (job.state == JobState::kQueued) return true;
  if (job.state == JobState::kStarting || job.state == JobState::kRunning) return false;
  // Others wait behind it, for devices that are kept for it or that nobody could plan for; or for those that it holds.
  const PassMemo* memo = state.pass_memo();
  const bool plans_missing = memo == nullptr || memo->plans_missing;
  if (waited) return plans_missing || state.reservations().contains(job.id);
  return job.live_attempt() != nullptr && !state.reservations().empty();
}

}  // namespace

void Move(Draft& draft, absl::string_view id, JobState to, StatusReason reason, std::string message,
          absl::string_view actor) {
  JobRecord& job = draft.EditJob(id);
  if (!IsLegalMove(job.state, to)) {
    Bug(absl::StrCat("job ", id, " cannot move from ", JobStateName(job.state), " to ", JobStateName(to)));
  }
  const bool waited = job.state == JobState::kQueued;
  draft.Event(JobName(id), "JOB_STATE",
              absl::StrCat(JobStateName(job.state), " -> ", JobStateName(to),
                           reason == StatusReason::kUnspecified ? "" : absl::StrCat(" (", ReasonName(reason), ")"),
                           message.empty() ? "" : ": ", message),
              actor);
  job.state = to;
  job.reason = reason;
  job.message = std::move(message);
  job.update_time = draft.now().wall;
  if (to != JobState::kQueued) {
    job.not_before = job.ready_mono = absl::InfinitePast();
    job.backoff = absl::ZeroDuration();
  }
  if (to == JobState::kRunning && job.start_time == absl::InfinitePast()) job.start_time = draft.now().wall;
  if (IsTerminal(to)) job.end_time = draft.now().wall;
  if (MattersToOthers(draft.base(), job, waited)) draft.RequestPass();
}

}  // namespace p2::scheduler
