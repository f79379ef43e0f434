#include "common/spec/reconstruction.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace p2::spec {

absl::StatusOr<int> NearestSnr(const NoiseSchedule& schedule, double snr) {
  if (!(snr > 0) || !std::isfinite(snr)) {
    return absl::InvalidArgumentError(absl::StrCat("SNR ", snr, " must be a positive number"));
  }
  const auto distance = [&](double other) { return std::abs(std::log(other) - std::log(snr)); };
  const auto nearest = std::min_element(schedule.snr.begin(), schedule.snr.end(),
                                        [&](double a, double b) { return distance(a) < distance(b); });
  return static_cast<int>(nearest - schedule.snr.begin());
}

absl::StatusOr<int> SpacedIndex(const SpacedSchedule& spaced, int t) {
  const auto nearest = std::min_element(spaced.timestep_map.begin(), spaced.timestep_map.end(),
                                        [t](int64_t a, int64_t b) { return std::abs(a - t) < std::abs(b - t); });
  if (*nearest != t) {
    return absl::InvalidArgumentError(
        absl::StrCat("timestep ", t, " is not one of this chain's; the nearest is ", *nearest));
  }
  return static_cast<int>(nearest - spaced.timestep_map.begin());
}

absl::StatusOr<std::vector<int>> ReconstructionTimesteps(const SpacedSchedule& spaced, absl::Span<const int> timesteps,
                                                         absl::Span<const double> snrs) {
  std::vector<int> indices;
  const auto add = [&](int index) {
    if (std::find(indices.begin(), indices.end(), index) == indices.end()) indices.push_back(index);
  };
  for (const int timestep : timesteps) {
    P2_ASSIGN_OR_RETURN(const int index, SpacedIndex(spaced, timestep));
    add(index);
  }
  for (const double snr : snrs) {
    P2_ASSIGN_OR_RETURN(const int index, NearestSnr(spaced.schedule, snr));
    add(index);
  }
  return indices;
}

}  // namespace p2::spec
