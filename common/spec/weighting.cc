#include "common/spec/weighting.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/spec/weight_expression.h"
#include "common/status_macros.h"

namespace p2::spec {

namespace {

constexpr WeightScheme kSchemes[] = {
    {"p2", "1 / pow(k + snr, gamma)", "perception prioritized (Eq. 8); gamma 0 is simple"},
    {"simple", "1", "L_simple of DDPM (Eq. 6)"},
    {"vlb", "beta / ((1 - beta) * (1 - abar))", "the variational bound (Eq. 5)"},
    {"min-snr", "min(snr, 5) / snr", "x_0's error weighted by min(SNR, 5) (arXiv:2303.09556)"},
    {"truncated-snr", "max(snr, 1) / snr", "x_0's error weighted by max(SNR, 1) (arXiv:2202.00512)"},
};

absl::StatusOr<WeightExpression> ParseWeight(absl::string_view weight) {
  const absl::string_view name = absl::StripAsciiWhitespace(weight);
  for (const WeightScheme& scheme : kSchemes) {
    if (scheme.name == name) return WeightExpression::Parse(scheme.expression);
  }
  absl::StatusOr<WeightExpression> parsed = WeightExpression::Parse(weight);
  if (parsed.ok()) return parsed;
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", weight.substr(0, 80), "\" is neither a scheme (",
      absl::StrJoin(kSchemes, ", ",
                    [](std::string* out, const WeightScheme& scheme) { absl::StrAppend(out, scheme.name); }),
      ") nor an expression: ", parsed.status().message()));
}

}  // namespace

absl::Span<const WeightScheme> WeightSchemes() { return kSchemes; }

absl::StatusOr<std::vector<double>> ObjectiveWeights(absl::string_view weight, double gamma, double k,
                                                     const NoiseSchedule& schedule) {
  for (const auto& [name, value] : {std::pair("gamma", gamma), std::pair("k", k)}) {
    if (!(value >= 0) || std::isinf(value)) {
      return absl::InvalidArgumentError(absl::StrCat(name, " must be finite and at least 0, not ", value));
    }
  }
  P2_ASSIGN_OR_RETURN(const WeightExpression expression, ParseWeight(weight));
  const std::vector<double> lambda = Lambda(schedule);
  const int T = schedule.num_timesteps();
  std::vector<double> weights(T);
  for (int t = 0; t < T; ++t) {
    weights[t] = expression.Evaluate({.snr = schedule.snr[t],
                                      .abar = schedule.alphas_cumprod[t],
                                      .beta = schedule.betas[t],
                                      .lambda = lambda[t],
                                      .t = static_cast<double>(t),
                                      .T = static_cast<double>(T),
                                      .k = k,
                                      .gamma = gamma});
    if (!std::isfinite(weights[t]) || weights[t] < 0) {
      return absl::InvalidArgumentError(absl::StrCat("the weight \"", weight.substr(0, 80), "\" is ", weights[t],
                                                     " at t = ", t, " (snr ", schedule.snr[t],
                                                     "); it must be finite and at least 0 at every t"));
    }
  }
  return weights;
}

bool UsesGammaAndK(absl::string_view weight) {
  const absl::string_view name = absl::StripAsciiWhitespace(weight);
  return name == "p2" || std::none_of(std::begin(kSchemes), std::end(kSchemes),
                                      [name](const WeightScheme& scheme) { return scheme.name == name; });
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
