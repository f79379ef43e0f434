// Which of a job's checkpoints are kept, and why.
#pragma once

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/scheduler/draft.h"

namespace p2::scheduler {

struct RetentionVerdict {
  CheckpointPtr checkpoint;
  bool keep = true;
  bool in_use = false;  // A job starts from it, or an attempt may resume from it.
  std::string why;      // Every reason to keep it: `newest 3, pinned`; or why none is left.
};

// Of all committed checkpoints of the job, newest first. Kept are: the newest keep_last (never fewer than 2, so that a
// bad newest one has a predecessor), the first at or after each multiple of keep_every images, the keep_best with the
// lowest metric, pinned ones, those that a live job starts from, and those that an attempt in progress may resume from.
std::vector<RetentionVerdict> JudgeCheckpoints(const Draft& draft, absl::string_view job);
// The same for readers. Empty if there is no such job.
std::vector<RetentionVerdict> JudgeCheckpoints(const ClusterState& state, absl::string_view job);

}  // namespace p2::scheduler
