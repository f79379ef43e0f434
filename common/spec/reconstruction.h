// Where the chains of a stochastic reconstruction begin (Fig. 2 of arXiv:2204.00227): by timestep, or by
//   SNR(t) = abar_t / (1 - abar_t).
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/spec/noise_schedule.h"
#include "common/spec/respacing.h"

namespace p2::spec {

// The spaced timestep whose SNR is nearest to `snr` on a logarithmic scale. INVALID_ARGUMENT unless snr > 0.
absl::StatusOr<int> NearestSnr(const NoiseSchedule& schedule, double snr);

// The spaced timestep of original timestep `t`. INVALID_ARGUMENT naming the nearest kept one if it is not kept.
absl::StatusOr<int> SpacedIndex(const SpacedSchedule& spaced, int t);

// The spaced timesteps of original `timesteps`, then of `snrs`, in the order given, none twice. INVALID_ARGUMENT as
// above.
absl::StatusOr<std::vector<int>> ReconstructionTimesteps(const SpacedSchedule& spaced, absl::Span<const int> timesteps,
                                                         absl::Span<const double> snrs);

}  // namespace p2::spec
