// The Gaussian diffusion process over tensors: q(x_t | x_0), its posterior, and p(x_{t-1} | x_t) from a model's output.
//
// Letters: T timesteps of the (spaced) process, t (B) int64 in 0 … T-1, C channels. Tables are made in float64 and
// looked up as float32, as the published code does.
#pragma once

#include <torch/types.h>

#include <vector>

#include "common/spec/noise_schedule.h"
#include "common/spec/respacing.h"

namespace p2::diffusion {

enum class VarianceKind {
  // The model's channels C … 2C-1 hold v: log sigma^2 = f log beta + (1 - f) log beta~, f = (v + 1) / 2.
  kLearnedRange,
  // sigma^2 = beta_t (beta~_1 at t = 0); the model has C channels.
  kFixedLarge,
};

// Mean and ln of the variance, each (B, C, H, W).
struct NormalParameters {
  torch::Tensor mean;
  torch::Tensor log_variance;  // Broadcasts over (B, C, H, W) where it is a table's.
};

struct ModelPrediction {
  NormalParameters reverse;   // p(x_{t-1} | x_t)
  torch::Tensor pred_xstart;  // (B, C, H, W)
};

// Immutable. Thread-safe.
class GaussianDiffusion {
 public:
  GaussianDiffusion(const spec::NoiseSchedule& schedule, VarianceKind variance, torch::Device device = torch::kCPU);
  // A respaced process: t counts its kept steps.
  GaussianDiffusion(const spec::SpacedSchedule& spaced, VarianceKind variance, torch::Device device = torch::kCPU);

  int num_timesteps() const { return num_timesteps_; }
  VarianceKind variance() const { return variance_; }
  torch::Device device() const { return device_; }

  // What the model is told: t itself, or the original timestep of a spaced one. (B) int64.
  torch::Tensor ModelTimesteps(const torch::Tensor& t) const;

  // x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise.
  torch::Tensor QSample(const torch::Tensor& x0, const torch::Tensor& t, const torch::Tensor& noise) const;

  // q(x_t | x_0).
  NormalParameters QMeanVariance(const torch::Tensor& x0, const torch::Tensor& t) const;

  // q(x_{t-1} | x_t, x_0); the variance of t = 0, which is 0, is replaced by that of t = 1.
  NormalParameters QPosterior(const torch::Tensor& x0, const torch::Tensor& x_t, const torch::Tensor& t) const;

  // p(x_{t-1} | x_t) from the model's output at (x_t, ModelTimesteps(t)). `clip_denoised`: x_0 is clamped to [-1, 1].
  ModelPrediction PMeanVariance(const torch::Tensor& model_output, const torch::Tensor& x_t, const torch::Tensor& t,
                                bool clip_denoised) const;

  // The noise that leads from x_0 to x_t.
  torch::Tensor NoiseFromXStart(const torch::Tensor& x_t, const torch::Tensor& t, const torch::Tensor& x0) const;

  // abar_t and abar_{t-1} as (B, 1, 1, 1), for DDIM.
  torch::Tensor AlphasCumprod(const torch::Tensor& t) const;
  torch::Tensor AlphasCumprodPrev(const torch::Tensor& t) const;

  // Entry t of a float32 table (T), as (B, 1, 1, 1).
  static torch::Tensor Lookup(const torch::Tensor& table, const torch::Tensor& t);

  // A float32 table on `device` from float64 values.
  static torch::Tensor MakeTable(const std::vector<double>& values, torch::Device device);

 private:
  const int num_timesteps_;
  const VarianceKind variance_;
  const torch::Device device_;
  torch::Tensor timestep_map_;  // (T) int64; undefined: identity
  torch::Tensor alphas_cumprod_, alphas_cumprod_prev_, sqrt_alphas_cumprod_, sqrt_one_minus_alphas_cumprod_;
  torch::Tensor log_one_minus_alphas_cumprod_;
  torch::Tensor sqrt_recip_alphas_cumprod_, sqrt_recipm1_alphas_cumprod_;
  torch::Tensor posterior_mean_coef1_, posterior_mean_coef2_, posterior_log_variance_clipped_, log_betas_;
  torch::Tensor fixed_large_log_variance_;
};

}  // namespace p2::diffusion
