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

}  // namespace

std::optional<torch::Tensor> Sample(const Denoiser& denoiser, const diffusion::GaussianDiffusion& diffusion,
                                    const NoiseSource& noise, const SamplerOptions& options, const OnStep& on_step) {
  const torch::NoGradGuard no_grad;
  const int steps = diffusion.num_timesteps();
  torch::Tensor x = noise(std::nullopt);  // (n, C, H, W)
  for (int i = 0; i < steps; ++i) {
    const bool last = i + 1 == steps;
    const torch::Tensor t = at::full({x.size(0)}, steps - 1 - i, x.options().dtype(torch::kInt64));
    const auto prediction =
        diffusion.PMeanVariance(denoiser(x, diffusion.ModelTimesteps(t)), x, t, options.clip_denoised);
    const torch::Tensor step_noise = noise(i);
    x = options.ddim_eta ? DdimStep(diffusion, x, t, prediction.pred_xstart, *options.ddim_eta, step_noise, last)
                         : AncestralStep(prediction, step_noise, last);
    if (on_step && !on_step({i, steps, x, prediction.pred_xstart})) return std::nullopt;
  }
  return x;
}

NoiseSource CounterNoise(std::uint64_t seed, std::uint32_t stream, std::uint64_t first_image, at::IntArrayRef shape,
                         torch::Device device) {
  return [key = random::RowKey{seed, stream, first_image}, shape = shape.vec(), device](std::optional<int> step) {
    const std::uint32_t blocks = random::NormalBlocks(c10::multiply_integers(shape.begin() + 1, shape.end()));
    const std::uint32_t first_block = step ? (static_cast<std::uint32_t>(*step) + 1) * blocks : 0;
    return random::Normal(key, shape, first_block, device);
  };
}

torch::Tensor ToUint8(const torch::Tensor& x) {
  return ((x.clamp(-1, 1) + 1) / 2 * 255 + 0.5)
      .clamp(0, 255)
      .to(torch::kUInt8)
      .permute({0, 2, 3, 1})
      .contiguous()
      .to(torch::kCPU);
}

}  // namespace p2::sampling
