// Respacing: a shorter chain over a subset of the timesteps, for sampling (published code: respace.py).
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/spec/noise_schedule.h"

namespace p2::spec {

// The kept timesteps, ascending, out of 0 … num_timesteps - 1.
//   "ddimN"       the smallest stride i in 1 … T-1 with ceil(T / i) == N: 0, i, 2i, …
//   "a,b,c"       that many from each of equal sections (the first T mod S sections are one longer), evenly strided
//                 from a section's first to its last step, rounded half to even
// Counts parse like Python's int(): a sign and surrounding blanks are allowed; a count below 1 keeps nothing.
// INVALID_ARGUMENT if `spec` does not parse ("" included), a section is smaller than its count, or no stride gives N.
absl::StatusOr<std::vector<int>> SpaceTimesteps(int num_timesteps, absl::string_view spec);

struct SpacedSchedule {
  std::vector<int> timestep_map;  // spaced index -> original timestep, what the model is told
  NoiseSchedule schedule;         // betas 1 - abar_i / abar_(last kept)
};

// The process over the kept steps of `base`. "" keeps all of them (betas recomputed: equal to 1e-12 relative, not
// bit for bit). INVALID_ARGUMENT as SpaceTimesteps, and if nothing is kept.
absl::StatusOr<SpacedSchedule> MakeSpacedSchedule(const NoiseSchedule& base, absl::string_view spec);

}  // namespace p2::spec
