#include "common/spec/weighting.h"

#include <cmath>
#include <numeric>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/spec/weight_expression.h"
#include "common/status_macros.h"

namespace p2::spec {

absl::StatusOr<std::vector<double>> ObjectiveWeights(absl::string_view weight, double gamma, double k,
                                                     const NoiseSchedule& schedule) {
  for (const auto& [name, value] : {std::pair("gamma", gamma), std::pair("k", k)}) {
    if (!(value >= 0) || std::isinf(value)) {
      return absl::InvalidArgumentError(absl::StrCat(name, " must be finite and at least 0, not ", value));
    }
  }
  const absl::string_view name = absl::StripAsciiWhitespace(weight);
  std::optional<WeightExpression> expression;
  if (name != "p2" && name != "simple" && name != "vlb") {
    absl::StatusOr<WeightExpression> parsed = WeightExpression::Parse(weight);
    if (!parsed.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", weight.substr(0, 80),
                       "\" is neither a scheme (p2, simple, vlb) nor an expression: ", parsed.status().message()));
    }
    expression = *std::move(parsed);
  }
  const std::vector<double> lambda = Lambda(schedule);
  const int T = schedule.num_timesteps();
  std::vector<double> weights(T);
  for (int t = 0; t < T; ++t) {
    const double snr = schedule.snr[t];
    const double abar = schedule.alphas_cumprod[t];
    const double beta = schedule.betas[t];
    if (expression) {
      weights[t] = expression->Evaluate({.snr = snr,
                                         .abar = abar,
                                         .beta = beta,
                                         .lambda = lambda[t],
                                         .t = static_cast<double>(t),
                                         .T = static_cast<double>(T),
                                         .k = k,
                                         .gamma = gamma});
    } else if (name == "p2") {
      weights[t] = 1.0 / std::pow(k + snr, gamma);
    } else {
      weights[t] = name == "vlb" ? beta / ((1.0 - beta) * (1.0 - abar)) : 1.0;
    }
    if (!std::isfinite(weights[t]) || weights[t] < 0) {
      return absl::InvalidArgumentError(absl::StrCat("the weight \"", weight.substr(0, 80), "\" is ", weights[t],
                                                     " at t = ", t, " (snr ", snr,
                                                     "); it must be finite and at least 0 at every t"));
    }
  }
  return weights;
}

std::vector<double> Lambda(const NoiseSchedule& schedule) {
  std::vector<double> lambda(schedule.betas.size());
  for (size_t t = 0; t < lambda.size(); ++t) {
    lambda[t] = (1.0 - schedule.betas[t]) * (1.0 - schedule.alphas_cumprod[t]) / schedule.betas[t];
  }
  return lambda;
}

std::vector<double> LambdaPrime(const NoiseSchedule& schedule, absl::Span<const double> weights) {
  std::vector<double> lambda_prime = Lambda(schedule);
  for (size_t t = 0; t < lambda_prime.size(); ++t) lambda_prime[t] *= weights[t];
  return lambda_prime;
}

std::vector<double> Normalised(absl::Span<const double> values) {
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  std::vector<double> normalised(values.begin(), values.end());
  for (double& value : normalised) value /= sum;
  return normalised;
}

}  // namespace p2::spec
