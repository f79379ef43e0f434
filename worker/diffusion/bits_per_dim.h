// How many bits a dimension the model needs to encode images: the variational bound summed over the whole (spaced)
// chain plus the prior's term (published code: calc_bpd_loop).
//
// Letters: B images, C x H x W each; T timesteps of the process.
#pragma once

#include <torch/types.h>

#include <functional>

#include "worker/diffusion/gaussian_diffusion.h"

namespace p2::diffusion {

// Everything float32. Column j of a (B, T) belongs to timestep T-1-j: the noisiest comes first, as in the published
// code.
struct BitsPerDim {
  torch::Tensor total;       // (B) sum of vb over T, plus prior
  torch::Tensor prior;       // (B) KL(q(x_T | x_0) || N(0, 1))
  torch::Tensor vb;          // (B, T) the bound's terms, the decoder's at t = 0
  torch::Tensor xstart_mse;  // (B, T) of the predicted x_0
  torch::Tensor mse;         // (B, T) of the noise, derived again from the predicted (and clipped) x_0
};

// `model`: x (B, C, H, W), timesteps (B) int64 -> (B, C or 2C, H, W). x0 (B, C, H, W) in [-1, 1]. `noise`: standard
// normals like x0 for iteration i = 0 … T-1, the largest t first. Runs without autograd, T calls of the model.
BitsPerDim CalcBitsPerDim(
    const std::function<torch::Tensor(const torch::Tensor& x, const torch::Tensor& timesteps)>& model,
    const GaussianDiffusion& diffusion, const torch::Tensor& x0,
    const std::function<torch::Tensor(int iteration)>& noise, bool clip_denoised = true);

}  // namespace p2::diffusion
