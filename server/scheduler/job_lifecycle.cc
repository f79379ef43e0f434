#include "server/scheduler/job_lifecycle.h"

namespace p2::scheduler {

const std::vector<JobMove>& LegalMoves() {
  using S = JobState;
  static const auto* const moves = new std::vector<JobMove>{
      {S::kQueued, S::kStarting, "devices are free: a gang is reserved under a new epoch"},
      {S::kQueued, S::kPaused, "PauseJob"},
      {S::kQueued, S::kCancelling, "StopJob or KillJob; nothing runs, so CANCELLED follows at once"},
      {S::kQueued, S::kFailed, "the restart budget is spent"},
      {S::kStarting, S::kQueued, "the gang was not formed, or a rank ended before all had started"},
      {S::kStarting, S::kRunning, "every rank has a process"},
      {S::kStarting, S::kPausing, "PauseJob, a drain of one of its workers, or p2d gives its devices to another job"},
      {S::kStarting, S::kCancelling, "StopJob or KillJob"},
      {S::kStarting, S::kFailed, "an error that a restart cannot mend, or the restart budget is spent"},
      {S::kRunning, S::kQueued, "the attempt ended wrongly, or its worker stopped or was lost: restart"},
      {S::kRunning, S::kPausing, "PauseJob, a drain of one of its workers, or p2d gives its devices to another job"},
      {S::kRunning, S::kCancelling, "StopJob or KillJob"},
      {S::kRunning, S::kSucceeded, "rank 0 reported DONE and every rank ended with code 0"},
      {S::kRunning, S::kFailed, "an error that a restart cannot mend, or the restart budget is spent"},
      {S::kPausing, S::kQueued, "an attempt that p2d itself stopped (drain, preemption, growth) has ended"},
      {S::kPausing, S::kPaused, "no rank is left"},
      {S::kPausing, S::kCancelling, "StopJob or KillJob"},
      {S::kPausing, S::kSucceeded, "the run reached its end before it heard of the pause"},
      {S::kPausing, S::kFailed, "an error that a restart cannot mend"},
      {S::kPaused, S::kQueued, "ResumeJob"},
      {S::kPaused, S::kCancelling, "StopJob or KillJob; nothing runs, so CANCELLED follows at once"},
      {S::kCancelling, S::kCancelled, "no rank is left"},
  };
  return *moves;
}

bool IsLegalMove(JobState from, JobState to) {
  for (const JobMove& move : LegalMoves()) {
    if (move.from == from && move.to == to) return true;
  }
  return false;
}

bool IsTerminal(JobState state) {
  return state == JobState::kCancelled || state == JobState::kSucceeded || state == JobState::kFailed;
}

absl::string_view JobStateName(JobState state) {
  switch (state) {
    case JobState::kUnspecified:
      return "STATE_UNSPECIFIED";
    case JobState::kQueued:
      return "QUEUED";
    case JobState::kStarting:
      return "STARTING";
    case JobState::kRunning:
      return "RUNNING";
    case JobState::kPausing:
      return "PAUSING";
    case JobState::kPaused:
      return "PAUSED";
    case JobState::kCancelling:
      return "CANCELLING";
    case JobState::kCancelled:
      return "CANCELLED";
    case JobState::kSucceeded:
      return "SUCCEEDED";
    case JobState::kFailed:
      return "FAILED";
  }
  return "STATE_UNSPECIFIED";
}

}  // namespace p2::scheduler
