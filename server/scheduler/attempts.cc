#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/scheduler/decisions.h"
#include "server/scheduler/exit_class.h"
#include "server/scheduler/placement.h"

namespace p2::scheduler {
namespace {

constexpr int kSigkillExit = 128 + 9, kSigtermExit = 128 + 15;
constexpr size_t kMaxFailedJobs = 64;    // Of a worker that nobody cordons, or that nobody mends.
constexpr size_t kTailInAttempt = 1024;  // Bytes of the log that an attempt keeps; a FAILED job keeps all that came.

// 64-bit FNV-1a: the jitter of a backoff is a function of the attempt, so that a replay decides alike.
uint64_t Hash(absl::string_view text) {
  uint64_t hash = 14695981039346656037u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return hash;
}

// first * 2^(failures - 1), at most the job's backoff_max, times a factor in [0.8, 1.2).
absl::Duration Backoff(const JobRecord& job, absl::Duration first) {
  const int doublings = std::min(job.consecutive_failures - 1, 30);
  const absl::Duration wait = std::min(first * (int64_t{1} << doublings), job.needs->backoff_max);
  const double unit = static_cast<double>(Hash(absl::StrCat(job.id, "/", job.epoch)) % 10000) / 10000;
  return absl::Floor(wait * (0.8 + 0.4 * unit), absl::Milliseconds(1));
}

std::string DescribeExit(const RankExit& exit, absl::string_view worker) {
  const std::string who = absl::StrCat("rank ", exit.rank, " on ", worker);
  const std::string detail = exit.message.empty() ? "" : absl::StrCat(": ", exit.message);
  if (exit.frozen) return absl::StrCat(who, " made no progress within its deadline", detail);
  if (exit.exit_code > 128) return absl::StrCat(who, " died by signal ", exit.exit_code - 128, detail);
  return absl::StrCat(who, " ended with code ", exit.exit_code, detail);
}

// The last whole lines of `text` that fit into `max_bytes`; of one longer line, its end.
std::string LastLines(const std::string& text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  const size_t from = text.size() - max_bytes;
  const size_t line_end = text.find('\n', from - 1);  // `from` itself may begin a line.
  return text.substr(line_end == std::string::npos || line_end + 1 == text.size() ? from : line_end + 1);
}

absl::string_view OutcomeWord(Outcome outcome) {
  switch (outcome) {
    case Outcome::kSucceeded:
      return "succeeded";
    case Outcome::kStopped:
      return "stopped";
    case Outcome::kFailed:
      return "failed";
    case Outcome::kAbandoned:
      return "abandoned";
    default:
      return "live";
  }
}

// `attempt 3: stopped at 113600 images`, and why if there is more to say than the outcome.
std::string DescribeEnd(const Attempt& ended) {
  const bool has_reason = ended.reason != StatusReason::kUnspecified && ended.reason != StatusReason::kCompleted;
  return absl::StrCat("attempt ", ended.number, ": ", OutcomeWord(ended.outcome), " at ", ended.end_images_seen,
                      " images", has_reason ? absl::StrCat(", ", ReasonName(ended.reason)) : "",
                      ended.message.empty() ? "" : ": ", ended.message);
}

// The worker itself went down: what its ranks died of counts only where it is surely the job's own error.
bool ExcusedByWorker(StatusReason reason) {
  return reason == StatusReason::kRankDied || reason == StatusReason::kCommunication ||
         reason == StatusReason::kDeviceError || reason == StatusReason::kRankFrozen;
}

// A worker of the gang that is silent, and without whose ranks no other makes a step; empty: none.
absl::string_view LostMember(const Draft& draft, const Attempt& attempt) {
  for (const Member& member : attempt.members) {
    if (member.state != MemberState::kEnded && draft.Worker(member.worker)->state == WorkerState::kLost)
      return member.worker;
  }
  return "";
}

// `lost`: of LostMember, before this worker's part had ended.
void BlameExits(Attempt& attempt, const AttemptEnded& ended, absl::string_view worker, absl::string_view lost) {
  const int before = Severity(attempt.reason);
  const bool told_to_kill = attempt.stop_mode == StopMode::kKill;
  auto was_killed = [&](const RankExit& exit) {
    if (exit.frozen) return false;
    return exit.killed || (told_to_kill && (before == 0 || exit.exit_code == kSigkillExit));
  };
  for (const RankExit& exit : ended.ranks) {
    if (was_killed(exit)) continue;
    if (exit.frozen && !lost.empty()) {
      Blame(attempt, StatusReason::kWorkerLost, absl::StrCat("worker ", lost, " is lost"));
      continue;
    }
    if (IsStoppedExit(exit.exit_code)) attempt.reported_stopped = true;
    const StatusReason reason = exit.frozen ? StatusReason::kRankFrozen : ClassifyExit(exit.exit_code);
    if (reason == StatusReason::kUnspecified || (ended.worker_stopped && ExcusedByWorker(reason))) continue;
    if (Severity(reason) > Severity(attempt.reason)) attempt.culprit = std::string(worker);
    Blame(attempt, reason, DescribeExit(exit, worker), exit.exit_code);
  }
  if (ended.worker_stopped) {
    Blame(attempt, StatusReason::kWorkerStopped,
          absl::StrCat("worker ", worker,
                       ended.fenced ? " was cut off from p2d for longer than deadlines.fence_after"
                                    : " was stopped or restarted"));
  }
  if (Severity(attempt.reason) > before || attempt.log_tail.empty()) attempt.log_tail = ended.log_tail;
}

// The node may be the cause. Who is killed by SIGKILL or SIGTERM was killed by somebody.
bool MayBeTheNode(const Attempt& ended) {
  switch (ended.reason) {
    case StatusReason::kDeviceError:
    case StatusReason::kRankFrozen:
      return true;
    case StatusReason::kRankDied:
      return ended.exit_code != kSigkillExit && ended.exit_code != kSigtermExit;
    default:
      return false;
  }
}

// Ends the rest of a gang after one member has ended, if it did not end well.
void EndRest(Draft& draft, absl::string_view id) {
  const Attempt& attempt = *draft.Job(id)->live_attempt();
  const bool gracefully =
      attempt.reason == StatusReason::kUnspecified || attempt.reason == StatusReason::kWorkerStopped;
  if (!gracefully) {
    StopGang(draft, id, StopMode::kKill);
  } else if (attempt.reported_stopped || attempt.reason == StatusReason::kWorkerStopped) {
    StopGang(draft, id, StopMode::kCheckpoint);  // The others agreed to stop as well, and may be saving.
  } else {
    Settle(draft, id);
  }
}

void Fail(Draft& draft, absl::string_view id, StatusReason reason, absl::string_view message,
          absl::string_view log_tail) {
  std::string text(message);
  if (!log_tail.empty()) absl::StrAppend(&text, "\n", log_tail);
  Move(draft, id, JobState::kFailed, reason, std::move(text));
}

// After an attempt of a STARTING or RUNNING job that did not succeed.
void Restart(Draft& draft, absl::string_view id, StatusReason reason, const std::string& message,
             const std::string& log_tail) {
  JobRecord& job = draft.EditJob(id);
  if (IsFatal(reason)) return Fail(draft, id, reason, message, log_tail);
  ++job.consecutive_failures;
  const bool counted = IsCounted(reason, job.consecutive_failures);
  if (counted && ++job.restarts_used > job.needs->restart_budget) {
    return Fail(draft, id, StatusReason::kRestartBudgetSpent,
                absl::StrCat(job.needs->restart_budget, " restarts without a new checkpoint; the last failure is ",
                             ReasonName(reason), ": ", message),
                log_tail);
  }
  const bool not_formed = reason == StatusReason::kGangNotFormed;
  job.backoff = Backoff(job, not_formed ? draft.options().gang_backoff : job.needs->backoff_initial);
  job.not_before = draft.now().wall + job.backoff;
  job.ready_mono = draft.now().mono + job.backoff;
  const std::string budget =
      counted ? absl::StrCat(", restart ", job.restarts_used, " of ", job.needs->restart_budget) : "";
  Move(draft, id, JobState::kQueued, not_formed ? reason : StatusReason::kBackoff,
       absl::StrCat("waits ", absl::FormatDuration(job.backoff), " after ", ReasonName(reason), budget, ": ", message));
}

// What p2d says of an attempt that it stopped itself, by the cause.
struct StopStory {
  StatusReason reason = StatusReason::kUnspecified;
  absl::string_view attempt, job;
};

StopStory StoryOf(StopCause cause) {
  switch (cause) {
    case StopCause::kNone:
      return {StatusReason::kPausedByUser, "", ""};
    case StopCause::kDrain:
      return {StatusReason::kWorkerDrained, "its worker is drained", "its worker is drained; goes on elsewhere"};
    case StopCause::kPreempt:
      return {StatusReason::kPreempted, "made room for another job", "made room for another job; goes on"};
    case StopCause::kYield:
      return {StatusReason::kYielded, "gave reserved devices back", "gave reserved devices back; goes on"};
    case StopCause::kGrow:
      return {StatusReason::kResizing, "starts again on more devices", "starts again on more devices; goes on"};
  }
  return {};
}

void LeavePausing(Draft& draft, absl::string_view id) {
  JobRecord& job = draft.EditJob(id);
  const StopCause cause = std::exchange(job.stop_cause, StopCause::kNone);
  if (cause == StopCause::kNone) {
    return Move(draft, id, JobState::kPaused, StatusReason::kPausedByUser, job.message);
  }
  const StopStory story = StoryOf(cause);
  Move(draft, id, JobState::kQueued, story.reason,
       absl::StrCat(story.job, " from ", job.progress.images_seen, " images"));
}

// What the attempt's end means for its job.
void MoveOn(Draft& draft, absl::string_view id, const Attempt& ended, const std::string& log_tail) {
  const JobRecord& job = *draft.Job(id);
  const bool success = ended.outcome == Outcome::kSucceeded;
  const std::string completed =
      job.needs->images_total > 0 ? absl::StrCat("completed ", ended.end_images_seen, " images") : "completed";
  switch (job.state) {
    case JobState::kCancelling:
      Move(draft, id, JobState::kCancelled, job.reason,
           job.reason == StatusReason::kStoppedByUser && !ended.reported_stopped && !success
               ? absl::StrCat(job.message, "; no checkpoint was saved at the end",
                              ended.message.empty() ? "" : absl::StrCat(" (", ended.message, ")"))
               : job.message);
      return;
    case JobState::kPausing:
      if (success) return Move(draft, id, JobState::kSucceeded, StatusReason::kCompleted, completed);
      if (IsFatal(ended.reason)) return Fail(draft, id, ended.reason, ended.message, log_tail);
      return LeavePausing(draft, id);
    default:
      if (!success) return Restart(draft, id, ended.reason, ended.message, log_tail);
      if (job.state == JobState::kStarting) Move(draft, id, JobState::kRunning, StatusReason::kUnspecified, "");
      return Move(draft, id, JobState::kSucceeded, StatusReason::kCompleted, completed);
  }
}

Outcome OutcomeOf(Attempt& attempt, JobState state) {
  const bool wrong = attempt.reason != StatusReason::kUnspecified;
  if (attempt.reason == StatusReason::kWorkerLost) return Outcome::kAbandoned;
  if (!wrong && attempt.reported_done && !attempt.reported_stopped) {
    attempt.reason = StatusReason::kCompleted;
    return Outcome::kSucceeded;
  }
  if (!wrong && (attempt.reported_stopped || attempt.stop_mode != StopMode::kNone)) {
    // With no request of p2d, somebody signalled the ranks.
    if (attempt.stop_mode == StopMode::kNone || state == JobState::kStarting || state == JobState::kRunning) {
      Blame(attempt, StatusReason::kWorkerStopped, "the ranks were told to stop from outside");
    }
    return Outcome::kStopped;
  }
  if (!wrong) {
    Blame(attempt, StatusReason::kRankDied,
          "every rank ended with code 0, but rank 0 never reported that the run is done", 0);
  }
  return attempt.reason == StatusReason::kWorkerStopped && attempt.reported_stopped ? Outcome::kStopped
                                                                                    : Outcome::kFailed;
}

}  // namespace

void WatchNodes(Draft& draft, absl::string_view id, const Attempt& ended) {
  if (ended.outcome == Outcome::kSucceeded || ended.outcome == Outcome::kStopped) {
    for (const Member& member : ended.members) {
      if (!draft.Worker(member.worker)->failed_jobs.empty()) draft.EditWorker(member.worker).failed_jobs.clear();
    }
    return;
  }
  if (ended.outcome != Outcome::kFailed || ended.culprit.empty() || !MayBeTheNode(ended)) return;
  WorkerRecord& worker = draft.EditWorker(ended.culprit);
  std::vector<std::string>& jobs = worker.failed_jobs;
  if (std::count(jobs.begin(), jobs.end(), id) == 0) jobs.emplace_back(id);
  if (jobs.size() > kMaxFailedJobs) jobs.erase(jobs.begin());
  const int limit = draft.options().cordon_after_jobs;
  if (limit <= 0 || static_cast<int>(jobs.size()) < limit) return;
  CordonSuspect(draft, worker.id,
                absl::StrCat("the last attempts of jobs ", absl::StrJoin(jobs, ", "), " broke on it, now with ",
                             ReasonName(ended.reason)));
}

void Blame(Attempt& attempt, StatusReason reason, std::string message, std::optional<int> exit_code) {
  if (Severity(reason) <= Severity(attempt.reason)) return;
  attempt.reason = reason;
  attempt.message = std::move(message);
  attempt.exit_code = exit_code;
}

namespace {

// A member gave its devices back. With quotas and reservations more hangs on that than whether they suit somebody.
void RequestPassForFreed(Draft& draft) {
  const bool alone = draft.base().quotas().empty() && draft.base().reservations().empty();
  draft.RequestPass(alone ? PassNeed::kIfDevicesSuit : PassNeed::kFull);
}

}  // namespace

void MemberEnded(Draft& draft, const SpoolReport& report, const AttemptEnded& ended) {
  JobRecord& job = draft.EditJob(report.job);
  Attempt& attempt = *job.EditLiveAttempt();
  Member& member = *attempt.FindMember(report.worker);
  if (member.state == MemberState::kEnded) return;
  if (attempt.stop_mode == StopMode::kNone && ended.ranks.empty() && member.state != MemberState::kStarted) {
    Blame(attempt, StatusReason::kGangNotFormed,
          absl::StrCat("worker ", report.worker, " gave up the slots it had prepared"));
  }
  member.state = MemberState::kEnded;
  member.missing = false;
  BlameExits(attempt, ended, report.worker, LostMember(draft, attempt));
  RequestPassForFreed(draft);
  EndRest(draft, report.job);
}

void TrainerSaidFinished(Draft& draft, const SpoolReport& report, const TrainerFinished& finished) {
  JobRecord& job = draft.EditJob(report.job);
  Attempt& attempt = *job.EditLiveAttempt();
  using Said = TrainerFinished::Outcome;
  // The exact position; heartbeats lag behind it and are no longer heard (TakeProgress).
  if (report.rank == 0 && finished.outcome != Said::kFailed) job.progress.images_seen = finished.images_seen;
  if (finished.outcome == Said::kDone && report.rank == 0) attempt.reported_done = true;
  if (finished.outcome == Said::kStopped) attempt.reported_stopped = true;
  if (finished.outcome == Said::kFailed) {
    if (Severity(ClassifyExit(finished.exit_code)) > Severity(attempt.reason)) attempt.culprit = report.worker;
    Blame(attempt, ClassifyExit(finished.exit_code),
          DescribeExit({report.rank, finished.exit_code, false, false, finished.message}, report.worker),
          finished.exit_code);
  }
}

void EndMissing(Draft& draft, absl::string_view worker) {
  std::vector<std::string> ids;
  for (const JobRecord* job : draft.JobsOn(worker)) {
    const Member* member = job->live_attempt()->FindMember(worker);
    if (member->missing && member->state != MemberState::kEnded) ids.push_back(job->id);
  }
  for (const std::string& id : ids) {
    Attempt& attempt = *draft.EditJob(id).EditLiveAttempt();
    Member& member = *attempt.FindMember(worker);
    member.state = MemberState::kEnded;
    member.missing = false;
    Blame(attempt, StatusReason::kWorkerStopped,
          absl::StrCat("worker ", worker, " came back without attempt ", attempt.number));
    RequestPassForFreed(draft);
    EndRest(draft, id);
  }
}

void AbandonLostMembers(Draft& draft, absl::string_view id) {
  JobRecord& job = draft.EditJob(id);
  Attempt& attempt = *job.EditLiveAttempt();
  for (Member& member : attempt.members) {
    const WorkerRecord* worker = draft.Worker(member.worker);
    if (member.state == MemberState::kEnded || worker->state != WorkerState::kLost) continue;
    Orphan orphan{job.id, attempt.epoch, {}};
    for (const RankPlacement& rank : attempt.ranks) {
      if (rank.worker == member.worker) orphan.slots.push_back(rank.slot);
    }
    draft.EditWorker(member.worker).orphans.push_back(std::move(orphan));
    member.state = MemberState::kEnded;
    member.missing = false;
    Blame(attempt, StatusReason::kWorkerLost, absl::StrCat("worker ", member.worker, " is lost"));
  }
}

void ReviewLost(Draft& draft) {
  std::vector<std::pair<std::string, std::string>> affected;  // Job, worker.
  for (const auto& [worker_id, base] : draft.base().workers()) {
    if (draft.Worker(worker_id)->state != WorkerState::kLost) continue;
    for (const JobRecord* job : draft.JobsOn(worker_id)) {
      if (job->live_attempt()->FindMember(worker_id)->state != MemberState::kEnded)
        affected.emplace_back(job->id, worker_id);
    }
  }
  for (const auto& [id, worker] : affected) {
    const Attempt* attempt = draft.Job(id)->live_attempt();
    if (attempt == nullptr || attempt->FindMember(worker)->state == MemberState::kEnded) continue;
    if (attempt->stop_mode != StopMode::kNone) {
      AbandonLostMembers(draft, id);
      Settle(draft, id);
    } else if (draft.Job(id)->state == JobState::kStarting) {
      FailGang(draft, id, worker, StatusReason::kWorkerLost, "it is lost");
    } else if (FitsElsewhere(draft, *draft.Job(id))) {
      AbandonLostMembers(draft, id);
      StopGang(draft, id, StopMode::kKill);
    } else if (draft.Job(id)->reason != StatusReason::kWorkerLost) {
      JobRecord& job = draft.EditJob(id);
      job.reason = StatusReason::kWorkerLost;
      job.message = absl::StrCat("worker ", worker, " is lost; waits for it, or for ", job.needs->devices,
                                 " free devices elsewhere");
      draft.Event(JobName(id), "WORKER_LOST", job.message);
    }
  }
}

void Settle(Draft& draft, absl::string_view id) {
  JobRecord& job = draft.EditJob(id);
  Attempt* attempt = job.EditLiveAttempt();
  if (attempt == nullptr || std::any_of(attempt->members.begin(), attempt->members.end(),
                                        [](const Member& member) { return member.state != MemberState::kEnded; })) {
    return;
  }
  attempt->outcome = OutcomeOf(*attempt, job.state);
  if (attempt->outcome == Outcome::kStopped && job.state == JobState::kPausing && job.stop_cause != StopCause::kNone &&
      attempt->message.empty()) {
    const StopStory story = StoryOf(job.stop_cause);
    attempt->reason = story.reason;
    attempt->message = std::string(story.attempt);
  }
  attempt->end_time = draft.now().wall;
  attempt->end_images_seen = job.progress.images_seen;
  attempt->deadline_mono = absl::InfiniteFuture();
  const std::string log_tail = std::move(attempt->log_tail);
  attempt->log_tail.clear();
  const Attempt ended = *attempt;
  if (!log_tail.empty() && ended.outcome == Outcome::kFailed) {
    absl::StrAppend(&attempt->message, "\n", LastLines(log_tail, kTailInAttempt));
  }
  if (ended.outcome != Outcome::kSucceeded) {
    const std::vector<CheckpointPtr> good = ResumeCandidates(draft, id);
    job.progress.images_seen = good.empty() ? 0 : good.front()->images_seen;
  }
  job.progress.phase.clear();
  job.progress.images_per_second = 0;
  WatchNodes(draft, id, ended);
  draft.Event(JobName(id), "ATTEMPT_ENDED", DescribeEnd(ended));
  RequestPassForFreed(draft);
  MoveOn(draft, id, ended, log_tail);
}

}  // namespace p2::scheduler
