#include "worker/trainer/step_times.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace p2::trainer {

void StepTimes::End(absl::string_view phase) {
  const absl::Time now = clock_.Monotonic();
  spent_[std::string(phase)] += now - since_;
  since_ = now;
}

std::map<std::string, double> StepTimes::Take(double steps, double step_seconds) {
  std::map<std::string, double> means;
  double other = step_seconds;
  for (const auto& [phase, spent] : spent_) {
    const double mean = absl::ToDoubleSeconds(spent) / steps;
    means[absl::StrCat("step_seconds_", phase)] = mean;
    other -= mean;
  }
  means["step_seconds_other"] = std::max(0.0, other);
  Clear();
  return means;
}

}  // namespace p2::trainer
