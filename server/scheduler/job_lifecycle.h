// The states of a job and the only moves between them.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace p2::scheduler {

// from \ to    QUEUED STARTING RUNNING PAUSING PAUSED CANCELLING CANCELLED SUCCEEDED FAILED
// QUEUED         -       x        -       -      x        x          -         -       x
// STARTING       x       -        x       x      -        x          -         -       x
// RUNNING        x       -        -       x      -        x          -         x       x
// PAUSING        x       -        -       -      x        x          -         x       x
// PAUSED         x       -        -       -      -        x          -         -       -
// CANCELLING     -       -        -       -      -        -          x         -       -
// CANCELLED      -       -        -       -      -        -          -         -       -
// SUCCEEDED      -       -        -       -      -        -          -         -       -
// FAILED         -       -        -       -      -        -          -         -       -
//
// The numbers of p2.v1.Job.State. On disk: do not change values.
enum class JobState {
  kUnspecified = 0,
  kQueued = 1,
  kStarting = 2,
  kRunning = 3,
  kPausing = 4,
  kPaused = 5,
  kCancelling = 6,
  kCancelled = 7,
  kSucceeded = 8,
  kFailed = 9,
};

struct JobMove {
  JobState from, to;
  absl::string_view cause;
};

// The table above, row by row; docs/job-lifecycle.md holds the same and a test compares them.
const std::vector<JobMove>& LegalMoves();
bool IsLegalMove(JobState from, JobState to);

// CANCELLED, SUCCEEDED and FAILED: never left again.
bool IsTerminal(JobState state);

// As in p2.v1.Job.State: `QUEUED`.
absl::string_view JobStateName(JobState state);

}  // namespace p2::scheduler
