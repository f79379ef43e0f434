// What an agent that died left behind: trainers that checkpoint and end by themselves, and reports nobody read.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "worker/agent/rank_relay.h"
#include "worker/agent/spool.h"

namespace p2::agent {

// An attempt that has ended; its directory goes once the coordinator has `ended_sequence`.
struct EndedAttempt {
  AttemptKey key;
  std::string dir;
  uint64_t ended_sequence = 0;
};

// For each attempt in `attempts_dir` that has no AttemptEnded in the spool or journal: waits for its processes within
// their stop deadline, then SIGKILLs them; spools what their event logs and logs hold beyond what was spooled, then
// AttemptEnded{worker_stopped}. Blocks for at most the longest stop deadline. Nothing is left running when it returns;
// the spool is synced. A directory whose journal cannot be read is reported in the log and left as it is.
absl::StatusOr<std::vector<EndedAttempt>> RecoverLeftovers(const std::string& attempts_dir, Spool& spool,
                                                           const Clock& clock);

}  // namespace p2::agent
