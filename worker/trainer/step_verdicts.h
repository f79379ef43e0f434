// Which steps were bad, read from the device late: the host enqueues the next steps meanwhile.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "worker/checkpoint/train_state.h"

namespace p2::trainer {

// Bad steps in a row that call for a rollback.
inline constexpr size_t kBadStepsInARow = 3;

// On the CPU a verdict is there at once. On a GPU it is taken two steps later, at the same step on all ranks.
// Thread-compatible.
class StepVerdicts {
 public:
  struct Verdict {
    checkpoint::SampleRange samples;
    bool bad = false;
  };

  // A step that was enqueued, and its flag on the device: exactly 0 or 1.
  void Push(checkpoint::SampleRange samples, const at::Tensor& found_inf);
  // The oldest verdict that is due, if there is one; the step has completed then.
  std::optional<Verdict> Pop();
  // Forgets what is under way.
  void Clear() { pending_.clear(); }

 private:
  struct Pending {
    checkpoint::SampleRange samples;
    at::Tensor flag;                   // On the host; pinned where it is still being copied.
    std::optional<c10::Event> copied;  // Unset on the CPU.
  };
  std::deque<Pending> pending_;
};

// Adds `ranges` to `all`, which stays ascending and disjoint; neighbours become one.
void AddSkipped(const std::vector<checkpoint::SampleRange>& ranges, std::vector<checkpoint::SampleRange>* all);

}  // namespace p2::trainer
