// Section 2: respacing, exact, and the tables of spaced processes (errors as in section 1).
#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/check/reference_model.h"
#include "worker/check/sections.h"

namespace p2::check {
namespace {

std::string Name(const char* group, const nlohmann::json& entry) {
  return absl::StrCat(group, "/", entry.at("num_timesteps").get<int>(), "/\"", entry.at("spec").get<std::string>(),
                      "\"");
}

void CheckSteps(const nlohmann::json& entry, const std::string& name, Report& report) {
  const auto steps = spec::SpaceTimesteps(entry.at("num_timesteps"), entry.at("spec").get<std::string>());
  const bool refused = entry.value("is_error", false);
  if (steps.ok() == refused || refused)
    return report.Equal(name, steps.ok() != refused,
                        steps.ok() ? "p2 accepts it" : std::string(steps.status().message()));
  const auto want = entry.at("timesteps").get<std::vector<int>>();
  report.Equal(name, *steps == want && entry.at("count").get<size_t>() == steps->size(),
               absl::StrCat(steps->size(), " steps, other ones"));
}

void CheckSpaced(const nlohmann::json& entry, const std::string& name, Report& report) {
  const Process process = MakeProcess(entry.at("schedule"), entry.at("num_timesteps"), entry.at("spec"), true);
  const spec::NoiseSchedule& schedule = process.spaced.schedule;
  report.Equal(absl::StrCat(name, "/timestep_map"),
               process.spaced.timestep_map == entry.at("timestep_map").get<std::vector<int>>() &&
                   entry.at("num_spaced").get<int>() == schedule.num_timesteps(),
               "other steps");
  Worst worst;
  const auto add = [&](const char* array, const std::vector<double>& got, double floor, double tolerance) {
    worst.Add(array, MaxRelativeError(got, entry.at(array).get<std::vector<double>>(), floor), tolerance);
  };
  add("betas", schedule.betas, 2e-5, 1e-10);
  add("alphas_cumprod", schedule.alphas_cumprod, 2e-5, 1e-10);
  add("posterior_variance", schedule.posterior_variance, 2e-5, 1e-10);
  add("posterior_log_variance_clipped", schedule.posterior_log_variance_clipped, 10, 1e-10);
  add("snr", schedule.snr, 2e-5, 1e-10);
  if (entry.contains("posterior_mean_coef1")) add("posterior_mean_coef1", schedule.posterior_mean_coef1, 2e-5, 1e-10);
  if (entry.contains("posterior_mean_coef2")) add("posterior_mean_coef2", schedule.posterior_mean_coef2, 2e-5, 1e-10);
  report.Add(absl::StrCat(name, "/tables"), worst);
}

}  // namespace

void CheckRespacing(const Fixtures& fixtures, Report& report) {
  const nlohmann::json json = fixtures.Json("respacing.json");
  for (const char* group : {"cases", "errors"}) {
    for (const nlohmann::json& entry : json.at(group)) {
      const std::string name = Name(group, entry);
      report.Case(name, [&] { CheckSteps(entry, name, report); });
    }
  }
  for (const nlohmann::json& entry : json.at("spaced")) {
    const std::string name = absl::StrCat(Name("spaced", entry), "/", entry.at("schedule").get<std::string>());
    report.Case(name, [&] { CheckSpaced(entry, name, report); });
  }
}

}  // namespace p2::check
