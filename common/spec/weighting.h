// The weight of the objective, one factor per timestep on the epsilon-MSE (arXiv:2204.00227, Eq. 5 to 8):
//   p2             1 / (k + SNR)^gamma                  perception prioritized (Eq. 8); gamma = 0 is `simple`
//   simple         1                                    L_simple (Eq. 6)
//   vlb            beta / ((1 - beta)(1 - abar))        the variational bound (Eq. 5)
//   min-snr        min(SNR, 5) / SNR                    arXiv:2303.09556: x_0's error weighted by min(SNR, 5)
//   truncated-snr  max(SNR, 1) / SNR                    arXiv:2202.00512: x_0's error weighted by max(SNR, 1)
// or an expression (weight_expression.h); the schemes are expressions too.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/spec/noise_schedule.h"

namespace p2::spec {

struct WeightScheme {
  absl::string_view name;
  absl::string_view expression;
  absl::string_view what;  // For people.
};
absl::Span<const WeightScheme> WeightSchemes();

// (T) factors on the epsilon-MSE, unnormalized. `weight`: a scheme or an expression.
// INVALID_ARGUMENT if gamma < 0 or k < 0 or either is not finite, if `weight` does not parse, or if a factor is
// negative or not finite (the first such t is named, with its value).
absl::StatusOr<std::vector<double>> ObjectiveWeights(absl::string_view weight, double gamma, double k,
                                                     const NoiseSchedule& schedule);

// Whether `weight` may read gamma and k: `p2` and expressions; the other schemes do not.
bool UsesGammaAndK(absl::string_view weight);

// lambda_t = (1 - beta)(1 - abar) / beta: the weight of L_simple relative to the bound's terms L_t (Eq. 7). (T)
std::vector<double> Lambda(const NoiseSchedule& schedule);

// lambda'_t = lambda_t * w_t (Eq. 8), `weights`: factors on the epsilon-MSE, (T). REQUIRES: equal lengths.
std::vector<double> LambdaPrime(const NoiseSchedule& schedule, absl::Span<const double> weights);

// Divided by their sum, as the paper's figures draw them. REQUIRES: a positive sum.
std::vector<double> Normalised(absl::Span<const double> values);

}  // namespace p2::spec
