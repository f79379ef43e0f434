#include "worker/diffusion/bits_per_dim.h"

#include <ATen/ATen.h>

#include <cmath>
#include <vector>

#include "worker/diffusion/loss.h"

namespace p2::diffusion {
namespace {

torch::Tensor MeanOfSample(const torch::Tensor& x) { return x.flatten(1).mean(1); }  // (B, …) -> (B)

}  // namespace

BitsPerDim CalcBitsPerDim(
    const std::function<torch::Tensor(const torch::Tensor& x, const torch::Tensor& timesteps)>& model,
    const GaussianDiffusion& diffusion, const torch::Tensor& x0,
    const std::function<torch::Tensor(int iteration)>& noise, bool clip_denoised) {
  const torch::NoGradGuard no_grad;
  const int steps = diffusion.num_timesteps();
  const TrainingLoss loss(diffusion, std::vector<double>(static_cast<size_t>(steps), 1.0));
  const auto batch_of = [&](int t) { return at::full({x0.size(0)}, t, x0.options().dtype(torch::kInt64)); };
  std::vector<torch::Tensor> vb, xstart_mse, mse;  // (B) each
  for (int i = 0; i < steps; ++i) {
    const torch::Tensor t = batch_of(steps - 1 - i);
    const torch::Tensor epsilon = noise(i);
    const torch::Tensor x_t = diffusion.QSample(x0, t, epsilon);
    const torch::Tensor output = model(x_t, diffusion.ModelTimesteps(t));
    const torch::Tensor predicted = diffusion.PMeanVariance(output, x_t, t, clip_denoised).pred_xstart;
    vb.push_back(loss.BoundTerm(output, x0, x_t, t, clip_denoised));
    xstart_mse.push_back(MeanOfSample(at::square(predicted - x0)));
    mse.push_back(MeanOfSample(at::square(diffusion.NoiseFromXStart(x_t, t, predicted) - epsilon)));
  }
  const NormalParameters last = diffusion.QMeanVariance(x0, batch_of(steps - 1));
  const NormalParameters standard = {at::zeros({1}, x0.options()), at::zeros({1}, x0.options())};
  BitsPerDim result;
  result.prior = MeanOfSample(NormalKl(last, standard)) / std::log(2.0);
  result.vb = at::stack(vb, 1);
  result.total = result.vb.sum(1) + result.prior;
  result.xstart_mse = at::stack(xstart_mse, 1);
  result.mse = at::stack(mse, 1);
  return result;
}

}  // namespace p2::diffusion
