// Drawing images from a trained model: the ancestral sampler and DDIM, over a full or respaced process.
//
// Letters: n images, C x H x W each; S steps, step 0 the noisiest (spaced timestep S-1).
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <functional>
#include <optional>

#include "worker/diffusion/gaussian_diffusion.h"

namespace p2::sampling {

// The model: x (n, C, H, W), timesteps (n) int64 -> (n, C or 2C, H, W).
using Denoiser = std::function<torch::Tensor(const torch::Tensor& x, const torch::Tensor& timesteps)>;

// Standard normals (n, C, H, W): x_T for std::nullopt, else the noise of that step. Called for x_T, then once a step.
using NoiseSource = std::function<torch::Tensor(std::optional<int> step)>;

// What a step left behind. The tensors are the sampler's: copy what you keep.
struct SamplerStep {
  int index = 0;  // from 0
  int count = 0;  // S
  const torch::Tensor& sample;
  const torch::Tensor& pred_xstart;
};

// Called after each step; false stops the sampler.
using OnStep = std::function<bool(const SamplerStep&)>;

struct SamplerOptions {
  bool clip_denoised = true;       // Clamp the predicted x_0 to [-1, 1].
  std::optional<double> ddim_eta;  // Set: DDIM with this eta (0: deterministic). Unset: ancestral.
};

// Runs the chain from spaced timestep `t` down to 0 without autograd: `x` (n, C, H, W) is x_t. Returns x_0 (n, C, H,
// W); nothing if `on_step` stopped it. Steps count from 0 at `t`, there are t + 1. Exceptions of the denoiser pass
// through.
std::optional<torch::Tensor> Denoise(const Denoiser& denoiser, const diffusion::GaussianDiffusion& diffusion,
                                     torch::Tensor x, int t, const NoiseSource& noise,
                                     const SamplerOptions& options = {}, const OnStep& on_step = nullptr);

// Runs the whole chain without autograd and returns x_0 (n, C, H, W); nothing if `on_step` stopped it.
// Exceptions of the denoiser pass through.
std::optional<torch::Tensor> Sample(const Denoiser& denoiser, const diffusion::GaussianDiffusion& diffusion,
                                    const NoiseSource& noise, const SamplerOptions& options = {},
                                    const OnStep& on_step = nullptr);

// The random map's noise for images first_image … first_image + n - 1 of `stream` (kPreviewStream, kSampleStream):
// x_T takes blocks 0 … m-1, m = ceil(CHW / 4), and step i blocks (i+1) m … (i+2) m - 1. An image is the same in any
// batch.
NoiseSource CounterNoise(std::uint64_t seed, std::uint32_t stream, std::uint64_t first_image, at::IntArrayRef shape,
                         torch::Device device = torch::kCPU);

// Pixels of a PNG: clamp to [-1, 1], (x + 1) / 2 * 255, rounded half up. x (n, C, H, W) -> (n, H, W, C) uint8 on the
// CPU, contiguous.
torch::Tensor ToUint8(const torch::Tensor& x);

// Pixels of the published code's .npz: (x + 1) * 127.5 clamped to 0 … 255 and cut off, not rounded: up to one level
// below ToUint8. Shapes as there.
torch::Tensor ToUint8Truncated(const torch::Tensor& x);

}  // namespace p2::sampling
