// Where the time of steps goes, by the host's clock: nothing waits for the device.
#pragma once

#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/clock.h"

namespace p2::trainer {

// Thread-compatible.
class StepTimes {
 public:
  explicit StepTimes(const Clock& clock = Clock::Real()) : clock_(clock), since_(clock.Monotonic()) {}

  // What follows belongs to no phase, until End.
  void Begin() { since_ = clock_.Monotonic(); }
  // The time since Begin or the last End was `phase`'s.
  void End(absl::string_view phase);

  // Means over `steps` of the phases since the last call, and what is left of `step_seconds`, as
  // `step_seconds_<phase>` and `step_seconds_other`. REQUIRES: steps > 0.
  std::map<std::string, double> Take(double steps, double step_seconds);
  // Forgets what was counted.
  void Clear() { spent_.clear(); }

 private:
  const Clock& clock_;
  absl::Time since_;
  std::map<std::string, absl::Duration, std::less<>> spent_;
};

}  // namespace p2::trainer
