#include "worker/diffusion/loss.h"

#include <ATen/ATen.h>

#include <cmath>

namespace p2::diffusion {
namespace {

torch::Tensor MeanOfSample(const torch::Tensor& x) { return x.flatten(1).mean(1); }  // (B, …) -> (B)

// The standard normal's cumulative distribution, by the tanh approximation of the published code.
torch::Tensor ApproximateNormalCdf(const torch::Tensor& x) {
  return 0.5 * (1 + at::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * at::pow(x, 3))));
}

torch::Tensor Log(const torch::Tensor& probability) { return at::log(probability.clamp_min(1e-12)); }

}  // namespace

torch::Tensor DiscretizedGaussianLogLikelihood(const torch::Tensor& x, const torch::Tensor& mean,
                                               const torch::Tensor& log_scale) {
  const torch::Tensor centered = x - mean;
  const torch::Tensor inverse_scale = at::exp(-log_scale);
  const torch::Tensor cdf_above = ApproximateNormalCdf(inverse_scale * (centered + 1.0 / 255));
  const torch::Tensor cdf_below = ApproximateNormalCdf(inverse_scale * (centered - 1.0 / 255));
  return at::where(x < -0.999, Log(cdf_above), at::where(x > 0.999, Log(1 - cdf_below), Log(cdf_above - cdf_below)));
}

torch::Tensor NormalKl(const NormalParameters& p, const NormalParameters& q) {
  return 0.5 * (-1.0 + q.log_variance - p.log_variance + at::exp(p.log_variance - q.log_variance) +
                at::square(p.mean - q.mean) * at::exp(-q.log_variance));
}

TrainingLoss::TrainingLoss(const GaussianDiffusion& diffusion, const std::vector<double>& weights, LossOptions options)
    : diffusion_(diffusion), options_(options), weights_(GaussianDiffusion::MakeTable(weights, diffusion.device())) {
  TORCH_CHECK(weights.size() == static_cast<size_t>(diffusion.num_timesteps()), "the objective has ", weights.size(),
              " weights for ", diffusion.num_timesteps(), " timesteps");
}

torch::Tensor TrainingLoss::BoundTerm(const torch::Tensor& model_output, const torch::Tensor& x0,
                                      const torch::Tensor& x_t, const torch::Tensor& t, bool clip_denoised) const {
  const NormalParameters posterior = diffusion_.QPosterior(x0, x_t, t);
  const NormalParameters reverse = diffusion_.PMeanVariance(model_output, x_t, t, clip_denoised).reverse;
  const torch::Tensor kl = MeanOfSample(NormalKl(posterior, reverse)) / std::log(2.0);
  const torch::Tensor first = t == 0;
  if (t.is_cpu() && !first.any().item<bool>()) return kl;  // On a device the question would wait for it.
  const torch::Tensor decoder =
      -MeanOfSample(DiscretizedGaussianLogLikelihood(x0, reverse.mean, 0.5 * reverse.log_variance)) / std::log(2.0);
  return at::where(first, decoder, kl);
}

LossTerms TrainingLoss::operator()(const torch::Tensor& model_output, const torch::Tensor& x0, const torch::Tensor& x_t,
                                   const torch::Tensor& t, const torch::Tensor& noise) const {
  LossTerms terms;
  if (options_.kl_only) {
    const torch::Tensor vb = BoundTerm(model_output, x0, x_t, t, /*clip_denoised=*/false);
    terms.loss = vb * diffusion_.num_timesteps();
    terms.vb = vb.detach();
    return terms;
  }
  const int64_t channels = x0.size(1);
  const torch::Tensor predicted = model_output.narrow(1, 0, channels).to(torch::kFloat32);
  const torch::Tensor mse_raw = MeanOfSample(at::square(noise - predicted));
  const torch::Tensor mse = weights_.index_select(0, t) * mse_raw;
  terms.mse_raw = mse_raw.detach();
  terms.mse = mse.detach();
  if (diffusion_.variance() == VarianceKind::kFixedLarge) {
    terms.vb = at::zeros_like(terms.mse);
    terms.loss = mse;
    return terms;
  }
  const torch::Tensor mean_frozen =
      at::cat({model_output.narrow(1, 0, channels).detach(), model_output.narrow(1, channels, channels)}, 1);
  torch::Tensor vb = BoundTerm(mean_frozen, x0, x_t, t, /*clip_denoised=*/false);
  if (options_.rescale_vb) vb = vb * (diffusion_.num_timesteps() / 1000.0);
  terms.vb = vb.detach();
  terms.loss = mse + vb;
  return terms;
}

}  // namespace p2::diffusion
