#include "common/spec/noise_schedule.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace p2::spec {
namespace {

constexpr int kMaxTimesteps = 100000;
constexpr double kPi = 3.14159265358979323846;

// numpy.linspace's arithmetic: start + i * step, the last entry exactly `stop`.
std::vector<double> LinearBetas(int num_timesteps) {
  const double scale = 1000.0 / num_timesteps;
  const double start = scale * 0.0001;
  const double stop = scale * 0.02;
  std::vector<double> betas(num_timesteps, start);
  if (num_timesteps == 1) return betas;
  const double step = (stop - start) / (num_timesteps - 1);
  for (int t = 0; t < num_timesteps; ++t) betas[t] = t * step + start;
  betas.back() = stop;
  return betas;
}

std::vector<double> CosineBetas(int num_timesteps) {
  const auto alpha_bar = [](double u) {
    const double c = std::cos((u + 0.008) / 1.008 * kPi / 2);
    return c * c;
  };
  std::vector<double> betas(num_timesteps);
  for (int t = 0; t < num_timesteps; ++t) {
    const double from = static_cast<double>(t) / num_timesteps;
    const double to = static_cast<double>(t + 1) / num_timesteps;
    betas[t] = std::min(1 - alpha_bar(to) / alpha_bar(from), 0.999);
  }
  return betas;
}

}  // namespace

absl::StatusOr<ScheduleKind> ParseScheduleKind(absl::string_view name) {
  if (name == "linear") return ScheduleKind::kLinear;
  if (name == "cosine") return ScheduleKind::kCosine;
  return absl::InvalidArgumentError(absl::StrCat("noise schedule \"", name, "\" is unknown: use linear or cosine"));
}

absl::StatusOr<NoiseSchedule> MakeNoiseSchedule(ScheduleKind kind, int num_timesteps) {
  if (num_timesteps < 1 || num_timesteps > kMaxTimesteps) {
    return absl::InvalidArgumentError(
        absl::StrCat("a noise schedule has 1 to ", kMaxTimesteps, " timesteps, not ", num_timesteps));
  }
  if (kind == ScheduleKind::kLinear && num_timesteps < 20) {
    return absl::InvalidArgumentError(absl::StrCat("the linear schedule needs at least 20 timesteps, not ",
                                                   num_timesteps, ": its last beta, 20 / T, may not pass 1"));
  }
  return MakeNoiseSchedule(kind == ScheduleKind::kLinear ? LinearBetas(num_timesteps) : CosineBetas(num_timesteps));
}

absl::StatusOr<NoiseSchedule> MakeNoiseSchedule(absl::Span<const double> betas) {
  if (betas.empty()) return absl::InvalidArgumentError("a noise schedule needs at least one beta");
  for (size_t t = 0; t < betas.size(); ++t) {
    if (!(betas[t] > 0 && betas[t] <= 1)) {
      return absl::InvalidArgumentError(absl::StrCat("beta must be in (0, 1], but is ", betas[t], " at t = ", t));
    }
  }
  const size_t T = betas.size();
  NoiseSchedule s;
  s.betas.assign(betas.begin(), betas.end());
  double product = 1;
  for (size_t t = 0; t < T; ++t) {
    s.alphas_cumprod_prev.push_back(product);
    product *= 1.0 - betas[t];
    s.alphas_cumprod.push_back(product);
  }
  s.alphas_cumprod_next.assign(s.alphas_cumprod.begin() + 1, s.alphas_cumprod.end());
  s.alphas_cumprod_next.push_back(0);
  for (size_t t = 0; t < T; ++t) {
    const double beta = betas[t];
    const double abar = s.alphas_cumprod[t];
    const double prev = s.alphas_cumprod_prev[t];
    s.sqrt_alphas_cumprod.push_back(std::sqrt(abar));
    s.sqrt_one_minus_alphas_cumprod.push_back(std::sqrt(1.0 - abar));
    s.log_one_minus_alphas_cumprod.push_back(std::log(1.0 - abar));
    s.sqrt_recip_alphas_cumprod.push_back(std::sqrt(1.0 / abar));
    s.sqrt_recipm1_alphas_cumprod.push_back(std::sqrt(1.0 / abar - 1));
    s.snr.push_back(1.0 / (1.0 - abar) - 1.0);
    s.log_betas.push_back(std::log(beta));
    s.posterior_variance.push_back(beta * (1.0 - prev) / (1.0 - abar));
    s.posterior_log_variance_clipped.push_back(std::log(s.posterior_variance[t]));
    s.posterior_mean_coef1.push_back(beta * std::sqrt(prev) / (1.0 - abar));
    s.posterior_mean_coef2.push_back((1.0 - prev) * std::sqrt(1.0 - beta) / (1.0 - abar));
  }
  s.posterior_log_variance_clipped[0] = T > 1 ? s.posterior_log_variance_clipped[1] : s.log_betas[0];
  return s;
}

}  // namespace p2::spec
