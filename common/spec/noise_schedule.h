// The noise schedule of the forward process q(x_t | x_0), and everything that follows from it, in float64.
//
// `T` steps, index t = 0 … T-1 (the paper's step is t + 1). abar_t = prod_{s <= t} (1 - beta_s); the paper calls it
// alpha_t. SNR(t) = abar_t / (1 - abar_t) (Eq. 4 of arXiv:2204.00227), falling in t. The formulas keep the operation
// order of the published code, because 1 - abar_t cancels at both ends of a schedule.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace p2::spec {

enum class ScheduleKind {
  kLinear,  // beta from 1e-4 to 0.02, both times 1000 / T; T >= 20, for no beta may pass 1.
  kCosine,  // beta_t = min(1 - f((t+1)/T) / f(t/T), 0.999), f(u) = cos^2((u + 0.008) / 1.008 * pi/2).
};

// Every vector has T entries.
struct NoiseSchedule {
  std::vector<double> betas;
  std::vector<double> alphas_cumprod;                 // abar_t
  std::vector<double> alphas_cumprod_prev;            // abar_{t-1}; 1 at t = 0
  std::vector<double> alphas_cumprod_next;            // abar_{t+1}; 0 at t = T-1
  std::vector<double> sqrt_alphas_cumprod;            // sqrt(abar)
  std::vector<double> sqrt_one_minus_alphas_cumprod;  // sqrt(1 - abar)
  std::vector<double> log_one_minus_alphas_cumprod;   // ln(1 - abar)
  std::vector<double> sqrt_recip_alphas_cumprod;      // sqrt(1 / abar)
  std::vector<double> sqrt_recipm1_alphas_cumprod;    // sqrt(1 / abar - 1)
  std::vector<double> snr;                            // 1 / (1 - abar) - 1
  std::vector<double> log_betas;                      // ln beta
  std::vector<double> posterior_variance;             // beta (1 - abar_prev) / (1 - abar); 0 at t = 0
  // ln of the above with entry 0 replaced by entry 1 (by ln beta_0 where T = 1).
  std::vector<double> posterior_log_variance_clipped;
  std::vector<double> posterior_mean_coef1;  // beta sqrt(abar_prev) / (1 - abar): factor of x_0
  std::vector<double> posterior_mean_coef2;  // (1 - abar_prev) sqrt(1 - beta) / (1 - abar): factor of x_t

  int num_timesteps() const { return static_cast<int>(betas.size()); }
};

// "linear" or "cosine". INVALID_ARGUMENT for any other name.
absl::StatusOr<ScheduleKind> ParseScheduleKind(absl::string_view name);

// INVALID_ARGUMENT unless 1 <= num_timesteps <= 100000 and every beta is in (0, 1].
absl::StatusOr<NoiseSchedule> MakeNoiseSchedule(ScheduleKind kind, int num_timesteps);

// From betas of one's own (a respaced process). INVALID_ARGUMENT if there are none, or one is outside (0, 1].
absl::StatusOr<NoiseSchedule> MakeNoiseSchedule(absl::Span<const double> betas);

}  // namespace p2::spec
