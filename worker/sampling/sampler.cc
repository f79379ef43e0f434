#include "worker/sampling/sampler.h"

#include <ATen/ATen.h>

#include <vector>

#include "worker/random/random_tensors.h"

namespace p2::sampling {
namespace {

torch::Tensor AncestralStep(const diffusion::ModelPrediction& prediction, const torch::Tensor& noise, bool last) {
  if (last) return prediction.reverse.mean;
  return prediction.reverse.mean + at::exp(0.5 * prediction.reverse.log_variance) * noise;
}

// Equation 12 of DDIM (arXiv:2010.02502), with the noise re-derived from the (clamped) x_0.
torch::Tensor DdimStep(const diffusion::GaussianDiffusion& diffusion, const torch::Tensor& x, const torch::Tensor& t,
                       const torch::Tensor& x0, double eta, const torch::Tensor& noise, bool last) {
  const torch::Tensor epsilon = diffusion.NoiseFromXStart(x, t, x0);
  const torch::Tensor abar = diffusion.AlphasCumprod(t), abar_prev = diffusion.AlphasCumprodPrev(t);
  const torch::Tensor sigma = eta * at::sqrt((1 - abar_prev) / (1 - abar)) * at::sqrt(1 - abar / abar_prev);
  const torch::Tensor mean = x0 * at::sqrt(abar_prev) + at::sqrt(1 - abar_prev - at::square(sigma)) * epsilon;
  return last ? mean : mean + sigma * noise;
}

torch::Tensor Pixels(const torch::Tensor& levels) {  // (n, C, H, W) in [0, 255] -> (n, H, W, C)
  return levels.to(torch::kUInt8).permute({0, 2, 3, 1}).contiguous().to(torch::kCPU);
}

}  // namespace

std::optional<torch::Tensor> Denoise(const Denoiser& denoiser, const diffusion::GaussianDiffusion& diffusion,
                                     torch::Tensor x, int t, const NoiseSource& noise, const SamplerOptions& options,
                                     const OnStep& on_step) {
  const torch::NoGradGuard no_grad;
  TORCH_CHECK(t >= 0 && t < diffusion.num_timesteps(), "timestep ", t, " is not one of ", diffusion.num_timesteps());
  const int steps = t + 1;
  for (int i = 0; i < steps; ++i) {
    const bool last = i + 1 == steps;
    const torch::Tensor now = at::full({x.size(0)}, t - i, x.options().dtype(torch::kInt64));
    const auto prediction =
        diffusion.PMeanVariance(denoiser(x, diffusion.ModelTimesteps(now)), x, now, options.clip_denoised);
    const torch::Tensor step_noise = noise(i);
    x = options.ddim_eta ? DdimStep(diffusion, x, now, prediction.pred_xstart, *options.ddim_eta, step_noise, last)
                         : AncestralStep(prediction, step_noise, last);
    if (on_step && !on_step({i, steps, x, prediction.pred_xstart})) return std::nullopt;
  }
  return x;
}

std::optional<torch::Tensor> Sample(const Denoiser& denoiser, const diffusion::GaussianDiffusion& diffusion,
                                    const NoiseSource& noise, const SamplerOptions& options, const OnStep& on_step) {
  return Denoise(denoiser, diffusion, noise(std::nullopt), diffusion.num_timesteps() - 1, noise, options, on_step);
}

NoiseSource CounterNoise(std::uint64_t seed, std::uint32_t stream, std::uint64_t first_image, at::IntArrayRef shape,
                         torch::Device device) {
  return [key = random::RowKey{seed, stream, first_image}, shape = shape.vec(), device](std::optional<int> step) {
    const std::uint32_t blocks = random::NormalBlocks(c10::multiply_integers(shape.begin() + 1, shape.end()));
    const std::uint32_t first_block = step ? (static_cast<std::uint32_t>(*step) + 1) * blocks : 0;
    return random::Normal(key, shape, first_block, device);
  };
}

torch::Tensor ToUint8(const torch::Tensor& x) { return Pixels(((x.clamp(-1, 1) + 1) / 2 * 255 + 0.5).clamp(0, 255)); }

torch::Tensor ToUint8Truncated(const torch::Tensor& x) { return Pixels(((x + 1) * 127.5).clamp(0, 255)); }

}  // namespace p2::sampling
