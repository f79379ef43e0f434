// Why a job is where it is, with the numbers behind it: what `p2ctl why` shows.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/scheduler/cluster_state.h"
#include "server/scheduler/event.h"
#include "server/scheduler/step.h"

namespace p2::scheduler {

// Who or what the job waits for.
struct Blocker {
  std::string resource;  // `jobs/{job}`, `workers/{worker}`, `users/{owner}`, `projects/{project}`.
  std::string why;       // `holds 2 devices that suit, ends in about 3 min`.
};

// A share as it counts now.
struct ShareNumbers {
  std::string id;
  double usage = 0, weight = 1, score = 0;  // shares.h.
  int devices = 0;
};

struct Explanation {
  JobState state = JobState::kUnspecified;
  StatusReason reason = StatusReason::kUnspecified;
  std::string message;
  // Among the jobs that wait for devices, in the order in which they are offered some: 1 is next. 0: it does not wait
  // so.
  int position = 0, waiting = 0;
  // Devices that suit it, of the kind of which there are most: all, and free.
  int devices_exist = 0, devices_free = 0;
  std::vector<Blocker> blockers;
  std::string unblock;  // What would let it start, or what to do.
  // When it starts, from now, if what runs ends as predicted: at the earliest, and if all before it go first. Nullopt:
  // not known.
  std::optional<absl::Duration> earliest, latest;
  std::vector<ShareNumbers> shares;  // Of its project and its owner.
};

ShareNumbers NumbersOf(const ClusterState& state, const std::string& share, const Moment& now,
                       const StepOptions& options);

// NOT_FOUND. Of a finished job what its record says.
absl::StatusOr<Explanation> Explain(const ClusterState& state, absl::string_view job, const Moment& now,
                                    const StepOptions& options);

// What would happen to a job that is not there yet: it is made in a copy of the state, and a scheduling pass is run.
// Errors: those of CreateJob. `placement`: the ranks that it would get at once; empty if it would wait.
struct Forecasted {
  Explanation explanation;
  std::vector<RankPlacement> placement;
};
absl::StatusOr<Forecasted> ForecastNewJob(ClusterState state, const CreateJob& command, const Moment& now,
                                          const StepOptions& options);

}  // namespace p2::scheduler
