// The training objective: weighted epsilon-MSE plus the variational bound's term for the learned variance.
//
//   mse_i = w(t_i) mean_{CHW} (noise - eps_hat)^2         w: spec::ObjectiveWeights (the P2 weight touches nothing
//   else) vb_i  = KL(q(x_{t-1} | x_t, x_0) || p) / ln 2, or the decoder's -log2-likelihood at t = 0: bits per
//   dimension, the mean
//           over C, H, W; gradients reach the variance only; times T / 1000 where `rescale_vb`
//   loss_i = mse_i + vb_i
// `kl_only`: loss_i = T vb_i with gradients to mean and variance, and no mse (published code: RESCALED_KL).
#pragma once

#include <torch/types.h>

#include <vector>

#include "worker/diffusion/gaussian_diffusion.h"

namespace p2::diffusion {

struct LossOptions {
  bool rescale_vb = true;
  bool kl_only = false;
};

// Each (B), float32. `loss` alone carries gradients. `vb` is zero with a fixed variance; mse and mse_raw are undefined
// where `kl_only`.
struct LossTerms {
  torch::Tensor mse_raw;  // unweighted
  torch::Tensor mse;
  torch::Tensor vb;
  torch::Tensor loss;
};

// Immutable. Thread-safe. `diffusion` must outlive it.
class TrainingLoss {
 public:
  // `weights`: T factors, one a timestep of `diffusion`.
  TrainingLoss(const GaussianDiffusion& diffusion, const std::vector<double>& weights, LossOptions options = {});

  // model_output: of (x_t, diffusion.ModelTimesteps(t)), (B, C or 2C, H, W); x_t = diffusion.QSample(x0, t, noise).
  LossTerms operator()(const torch::Tensor& model_output, const torch::Tensor& x0, const torch::Tensor& x_t,
                       const torch::Tensor& t, const torch::Tensor& noise) const;

  // The bound's term of one step in bits per dimension, (B), unscaled; gradients to all of model_output.
  // `clip_denoised`: as in GaussianDiffusion::PMeanVariance.
  torch::Tensor BoundTerm(const torch::Tensor& model_output, const torch::Tensor& x0, const torch::Tensor& x_t,
                          const torch::Tensor& t, bool clip_denoised) const;

 private:
  const GaussianDiffusion& diffusion_;
  const LossOptions options_;
  const torch::Tensor weights_;  // (T) float32
};

// ln of the probability that a Gaussian gives to the 8-bit bin of each element of x (in [-1, 1], bins 2/255 wide, the
// outermost open). Shapes broadcast.
torch::Tensor DiscretizedGaussianLogLikelihood(const torch::Tensor& x, const torch::Tensor& mean,
                                               const torch::Tensor& log_scale);

// KL(N(mean1, exp(log_variance1)) || N(mean2, exp(log_variance2))), elementwise, in nats.
torch::Tensor NormalKl(const NormalParameters& p, const NormalParameters& q);

}  // namespace p2::diffusion
