#include "worker/diffusion/gaussian_diffusion.h"

#include <ATen/ATen.h>

#include <cmath>

namespace p2::diffusion {

GaussianDiffusion::GaussianDiffusion(const spec::NoiseSchedule& schedule, VarianceKind variance, torch::Device device)
    : num_timesteps_(schedule.num_timesteps()), variance_(variance), device_(device) {
  const auto table = [device](const std::vector<double>& values) { return MakeTable(values, device); };
  alphas_cumprod_ = table(schedule.alphas_cumprod);
  alphas_cumprod_prev_ = table(schedule.alphas_cumprod_prev);
  sqrt_alphas_cumprod_ = table(schedule.sqrt_alphas_cumprod);
  sqrt_one_minus_alphas_cumprod_ = table(schedule.sqrt_one_minus_alphas_cumprod);
  log_one_minus_alphas_cumprod_ = table(schedule.log_one_minus_alphas_cumprod);
  sqrt_recip_alphas_cumprod_ = table(schedule.sqrt_recip_alphas_cumprod);
  sqrt_recipm1_alphas_cumprod_ = table(schedule.sqrt_recipm1_alphas_cumprod);
  posterior_mean_coef1_ = table(schedule.posterior_mean_coef1);
  posterior_mean_coef2_ = table(schedule.posterior_mean_coef2);
  posterior_log_variance_clipped_ = table(schedule.posterior_log_variance_clipped);
  log_betas_ = table(schedule.log_betas);
  std::vector<double> fixed_large = schedule.log_betas;
  fixed_large[0] = schedule.posterior_log_variance_clipped[0];
  fixed_large_log_variance_ = table(fixed_large);
}

GaussianDiffusion::GaussianDiffusion(const spec::SpacedSchedule& spaced, VarianceKind variance, torch::Device device)
    : GaussianDiffusion(spaced.schedule, variance, device) {
  const std::vector<int64_t> map(spaced.timestep_map.begin(), spaced.timestep_map.end());
  timestep_map_ = torch::tensor(map, torch::kInt64).to(device);
}

torch::Tensor GaussianDiffusion::ModelTimesteps(const torch::Tensor& t) const {
  return timestep_map_.defined() ? timestep_map_.index_select(0, t) : t;
}

torch::Tensor GaussianDiffusion::QSample(const torch::Tensor& x0, const torch::Tensor& t,
                                         const torch::Tensor& noise) const {
  return Lookup(sqrt_alphas_cumprod_, t) * x0 + Lookup(sqrt_one_minus_alphas_cumprod_, t) * noise;
}

NormalParameters GaussianDiffusion::QMeanVariance(const torch::Tensor& x0, const torch::Tensor& t) const {
  return {Lookup(sqrt_alphas_cumprod_, t) * x0, Lookup(log_one_minus_alphas_cumprod_, t)};
}

NormalParameters GaussianDiffusion::QPosterior(const torch::Tensor& x0, const torch::Tensor& x_t,
                                               const torch::Tensor& t) const {
  return {Lookup(posterior_mean_coef1_, t) * x0 + Lookup(posterior_mean_coef2_, t) * x_t,
          Lookup(posterior_log_variance_clipped_, t)};
}

ModelPrediction GaussianDiffusion::PMeanVariance(const torch::Tensor& model_output, const torch::Tensor& x_t,
                                                 const torch::Tensor& t, bool clip_denoised) const {
  const int64_t channels = x_t.size(1);
  const bool learned = variance_ == VarianceKind::kLearnedRange;
  TORCH_CHECK(model_output.size(1) == (learned ? 2 : 1) * channels, "the model's output has ", model_output.size(1),
              " channels; ", (learned ? 2 : 1) * channels, " are needed for images of ", channels,
              learned ? " and a learned variance" : " and a fixed variance");
  const torch::Tensor output = model_output.to(torch::kFloat32);
  torch::Tensor log_variance;
  if (learned) {
    const torch::Tensor fraction = (output.narrow(1, channels, channels) + 1) / 2;
    log_variance = fraction * Lookup(log_betas_, t) + (1 - fraction) * Lookup(posterior_log_variance_clipped_, t);
  } else {
    log_variance = Lookup(fixed_large_log_variance_, t);
  }
  torch::Tensor x0 = Lookup(sqrt_recip_alphas_cumprod_, t) * x_t -
                     Lookup(sqrt_recipm1_alphas_cumprod_, t) * output.narrow(1, 0, channels);
  if (clip_denoised) x0 = x0.clamp(-1, 1);
  return {{QPosterior(x0, x_t, t).mean, log_variance}, x0};
}

torch::Tensor GaussianDiffusion::NoiseFromXStart(const torch::Tensor& x_t, const torch::Tensor& t,
                                                 const torch::Tensor& x0) const {
  return (Lookup(sqrt_recip_alphas_cumprod_, t) * x_t - x0) / Lookup(sqrt_recipm1_alphas_cumprod_, t);
}

torch::Tensor GaussianDiffusion::AlphasCumprod(const torch::Tensor& t) const { return Lookup(alphas_cumprod_, t); }

torch::Tensor GaussianDiffusion::AlphasCumprodPrev(const torch::Tensor& t) const {
  return Lookup(alphas_cumprod_prev_, t);
}

torch::Tensor GaussianDiffusion::Lookup(const torch::Tensor& table, const torch::Tensor& t) {
  return table.index_select(0, t).view({-1, 1, 1, 1});
}

torch::Tensor GaussianDiffusion::MakeTable(const std::vector<double>& values, torch::Device device) {
  return torch::tensor(values, torch::kFloat64).to(torch::kFloat32).to(device);
}

}  // namespace p2::diffusion
