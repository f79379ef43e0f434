// Section 1: noise schedules, posterior quantities, weights. Errors are |d| / (|ref| + 2e-5), which makes 1e-10 the
// tolerance 1e-10 |ref| + 2e-15; logarithms absolute.
#include <ATen/ATen.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/spec/noise_schedule.h"
#include "common/spec/weighting.h"
#include "worker/check/sections.h"

namespace p2::check {
namespace {

using Arrays = std::map<std::string, std::vector<double>>;

constexpr double kFloor = 2e-5, kTolerance = 1e-10, kLogTolerance = 1e-9;

// "k1_g0.5" -> k = 1, gamma = 0.5.
void ParseTag(const std::string& tag, double* k, double* gamma) {
  const std::vector<std::string> parts = absl::StrSplit(tag, '_');
  TORCH_CHECK(parts.size() == 2 && parts[0].starts_with("k") && parts[1].starts_with("g") &&
                  absl::SimpleAtod(parts[0].substr(1), k) && absl::SimpleAtod(parts[1].substr(1), gamma),
              "\"", tag, "\" is no tag kK_gG");
}

Arrays ComputeArrays(const spec::NoiseSchedule& s, const nlohmann::json& tags) {
  Arrays arrays = {{"betas", s.betas},
                   {"alphas_cumprod", s.alphas_cumprod},
                   {"alphas_cumprod_prev", s.alphas_cumprod_prev},
                   {"alphas_cumprod_next", s.alphas_cumprod_next},
                   {"sqrt_alphas_cumprod", s.sqrt_alphas_cumprod},
                   {"sqrt_one_minus_alphas_cumprod", s.sqrt_one_minus_alphas_cumprod},
                   {"log_one_minus_alphas_cumprod", s.log_one_minus_alphas_cumprod},
                   {"sqrt_recip_alphas_cumprod", s.sqrt_recip_alphas_cumprod},
                   {"sqrt_recipm1_alphas_cumprod", s.sqrt_recipm1_alphas_cumprod},
                   {"snr", s.snr},
                   {"log_betas", s.log_betas},
                   {"posterior_variance", s.posterior_variance},
                   {"posterior_log_variance_clipped", s.posterior_log_variance_clipped},
                   {"posterior_mean_coef1", s.posterior_mean_coef1},
                   {"posterior_mean_coef2", s.posterior_mean_coef2},
                   {"lambda", spec::Lambda(s)},
                   {"lambda_normalised", spec::Normalised(spec::Lambda(s))}};
  for (const nlohmann::json& entry : tags) {
    const std::string tag = entry;
    double k = 0, gamma = 0;
    ParseTag(tag, &k, &gamma);
    const auto weights = spec::ObjectiveWeights("p2", gamma, k, s);
    TORCH_CHECK(weights.ok(), tag, ": ", std::string(weights.status().message()));
    const std::vector<double> lambda_prime = spec::LambdaPrime(s, *weights);
    arrays["p2_weight." + tag] = *weights;
    arrays["lambda_prime." + tag] = lambda_prime;
    arrays["lambda_prime_normalised." + tag] = spec::Normalised(lambda_prime);
  }
  return arrays;
}

bool IsLogarithm(const std::string& name) {
  return name.starts_with("log_") || name.find("_log_") != std::string::npos;
}

double Error(const std::string& name, const std::vector<double>& got, const std::vector<double>& want) {
  if (!IsLogarithm(name)) return MaxRelativeError(got, want, kFloor);
  return MaxDifference(torch::tensor(got, torch::kFloat64), torch::tensor(want, torch::kFloat64));
}

// What the json repeats of an array: some entries and the sum.
void AddExcerpt(const std::string& name, const std::vector<double>& got, const nlohmann::json& json, double tolerance,
                Worst& worst) {
  for (const auto& [key, value] : json.at("at").items()) {
    size_t t = 0;
    TORCH_CHECK(absl::SimpleAtoi(key, &t) && t < got.size(), name, " has no entry ", key);
    worst.Add(absl::StrCat("at ", key), Error(name, {got[t]}, {value.get<double>()}), tolerance);
  }
  // A sum's rounding grows with its terms.
  double sum = 0, sum_abs = 0;
  for (const double x : got) {
    sum += x;
    sum_abs += std::abs(x);
  }
  worst.Add("sum", std::abs(sum - json.at("sum").get<double>()) / (sum_abs + kFloor), kTolerance);
}

}  // namespace

void CheckSchedules(const Fixtures& fixtures, Report& report) {
  const nlohmann::json json = fixtures.Json("schedules.json");
  const Tensors tensors = fixtures.Tensors("schedules.safetensors");
  for (const auto& [key, schedule] : json.at("schedules").items()) {
    report.Case(key, [&] {
      const auto kind = spec::ParseScheduleKind(schedule.at("name").get<std::string>());
      TORCH_CHECK(kind.ok(), std::string(kind.status().message()));
      const auto made = spec::MakeNoiseSchedule(*kind, schedule.at("T").get<int>());
      TORCH_CHECK(made.ok(), std::string(made.status().message()));
      const Arrays arrays = ComputeArrays(*made, schedule.at("p2_tags"));
      for (const auto& [name, values] : arrays) {
        const std::string full = absl::StrCat(key, ".", name);
        report.Case(full, [&] {
          const double tolerance = IsLogarithm(name) ? kLogTolerance : kTolerance;
          Worst worst;
          worst.Add("the array", Error(name, values, tensors.Doubles(full)), tolerance);
          AddExcerpt(name, values, schedule.at("arrays").at(name), tolerance, worst);
          report.Add(full, worst);
        });
      }
      for (const auto& [name, excerpt] : schedule.at("arrays").items()) {
        if (arrays.count(name) == 0) report.Skip(absl::StrCat(key, ".", name), "p2 knows no such array");
      }
    });
  }
  for (const nlohmann::json& entry : json.at("accept_reject")) {
    const std::string name =
        absl::StrCat("accept_reject/", entry.at("name").get<std::string>(), "/", entry.at("T").get<int>());
    report.Case(name, [&] {
      const auto kind = spec::ParseScheduleKind(entry.at("name").get<std::string>());
      auto made = kind.ok() ? spec::MakeNoiseSchedule(*kind, entry.at("T").get<int>()) : kind.status();
      const bool expected = entry.at("ok");
      if (made.ok() != expected || !expected || !entry.contains("beta_last"))
        return report.Equal(name, made.ok() == expected, expected ? "p2 refuses it" : "p2 accepts it");
      report.Add(name, MaxRelativeError({made->betas.back()}, {entry.at("beta_last").get<double>()}, kFloor),
                 kTolerance);
    });
  }
}

}  // namespace p2::check
