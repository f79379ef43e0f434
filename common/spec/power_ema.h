// Power-function averages of the weights and their reconstruction afterwards (Karras et al. 2024, "Analyzing and
// Improving the Training Dynamics of Diffusion Models", arXiv:2312.02696, section 3 and appendix C).
//
// After n updates the average of exponent gamma holds the weights of update i = 1..n with the share
//   s_n(i) = (i^(gamma+1) - (i-1)^(gamma+1)) / n^(gamma+1),
// which is what ema <- beta_n ema + (1 - beta_n) w_n with beta_n = (1 - 1/n)^(gamma+1) gives.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace p2::spec {

// The widths that gamma >= 0 can give, less what no run can use: below 0.001 an average is the weights themselves.
inline constexpr double kLeastSigmaRel = 0.001;
inline constexpr double kMostSigmaRel = 0.288;  // gamma = 0, a plain mean, has sqrt(1/12).

// The positive root of (gamma + 1) = sigma_rel^2 (gamma + 2)^2 (gamma + 3): sigma_rel is the standard deviation of the
// position, as a fraction of the run so far, under the average's shares. REQUIRES: kLeastSigmaRel..kMostSigmaRel.
double PowerEmaGamma(double sigma_rel);

// Which snapshots a run keeps: the i-th of those due (from 1) stays if the stride divides i. The smallest power of two
// that leaves at most `most` of `due`, the one at the end of the run besides them. REQUIRES: due >= 0, most >= 2.
int64_t SnapshotStride(int64_t due, int64_t most);

// How many snapshots a run of `images` keeps at its end. 0 if every_images is. REQUIRES: images >= 1, most >= 2.
int64_t SnapshotsAtEnd(int64_t images, int64_t every_images, int64_t most);

// An average of exponent `gamma` >= 0 after `updates` >= 1.
struct PowerEma {
  double gamma = 0;
  int64_t updates = 0;
};

struct EmaReconstruction {
  std::vector<double> coefficients;  // One for each stored average; they add up to 1.
  // |shares of the sum - shares wanted| / |shares wanted|, 2-norms over the updates. The error of the weights is at
  // most this times |shares wanted| * sqrt(sum over updates of |w_i - w|^2), whatever w.
  double residual = 0;
  double shares_norm = 0;  // |shares wanted|
  double noise_gain = 0;   // Sum of |coefficients|: what rounding errors of the stored averages are multiplied by.
};

// The sum of `stored` whose shares come closest to those of `wanted`, in the least-squares sense, over every update
// (not the continuous limit that the paper's code solves), subject to coefficients that add up to 1. Averages that are
// a sum of the others to 1e-12 get 0. Takes O(most updates) time. INVALID_ARGUMENT if there is none, one breaks its
// range, or `wanted` lies behind every stored one, whose weights none of them saw.
absl::StatusOr<EmaReconstruction> ReconstructEma(absl::Span<const PowerEma> stored, const PowerEma& wanted);

}  // namespace p2::spec
