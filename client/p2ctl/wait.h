// Waiting for jobs: behind `wait`, `submit --wait` and `submit --follow`.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/wait_condition.h"
#include "p2/v1/job.pb.h"

namespace p2::ctl {

struct WaitOptions {
  WaitCondition condition;
  // One job that meets it is enough.
  bool any = false;
  absl::Duration timeout = absl::InfiniteDuration();
  // Show the progress of a single job.
  bool live = true;
};

struct WaitResult {
  // kJobFailed or kJobCancelled if a job ended so, else kConflict (with a line on stderr) if one will never meet
  // the condition, else kOk; kTimedOut; kInterrupted (detached, and said so).
  int exit_code = 0;
  // As last seen, in the order given.
  std::vector<v1::Job> jobs;
};

// An error is one of the server's. NOT_FOUND: a job was deleted.
absl::StatusOr<WaitResult> WaitForJobs(Context& context, const std::vector<v1::Job>& jobs, const WaitOptions& options);

}  // namespace p2::ctl
