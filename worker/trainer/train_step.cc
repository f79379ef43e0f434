#include "worker/trainer/train_step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "common/status_macros.h"
#include "worker/dist/c10d_reducer.h"
#include "worker/random/random_tensors.h"
#include "worker/random/streams.h"

namespace p2::trainer {
namespace {

at::Tensor Joined(const std::vector<diffusion::LossTerms>& parts, at::Tensor diffusion::LossTerms::*term) {
  std::vector<at::Tensor> tensors;
  for (const auto& part : parts) tensors.push_back((part.*term).detach());
  return at::cat(tensors);
}

}  // namespace

Share ShareOf(int rank, int world_size, int64_t batch) {
  return {rank * batch / world_size, (rank + 1) * batch / world_size};
}

TrainStep::TrainStep(const TrainSpec& spec, RunState& state, const diffusion::GaussianDiffusion& diffusion,
                     const diffusion::TrainingLoss& loss, dist::ProcessGroup& group, OnGradients on_gradients)
    : spec_(spec),
      state_(state),
      diffusion_(diffusion),
      loss_(loss),
      group_(group),
      on_gradients_(std::move(on_gradients)),
      reducer_(dist::MakeC10dReducer(group, state.unet().parameters())) {}

absl::StatusOr<StepResult> TrainStep::Run(const at::Tensor& x0, int64_t first_sample, const std::function<void()>& tick,
                                          StepTimes* times) {
  const int64_t count = x0.size(0);  // b
  const int64_t chunk = spec_.microbatch > 0 ? spec_.microbatch : count;
  std::vector<diffusion::LossTerms> parts;
  std::vector<at::Tensor> timesteps;
  state_.flat().ZeroGrads();
  for (int64_t i = 0; i < count; i += chunk) {
    const at::Tensor x = x0.slice(0, i, std::min(i + chunk, count));  // (n, C, H, W)
    const uint64_t g = static_cast<uint64_t>(first_sample + i);
    const at::Tensor t =
        random::Timesteps({spec_.seed, random::kTimestepStream, g}, x.size(0), spec_.timesteps, x.device());
    const at::Tensor noise = random::Normal({spec_.seed, random::kNoiseStream, g}, x.sizes(), 0, x.device());
    const at::Tensor x_t = diffusion_.QSample(x, t, noise);
    const model::DropoutContext dropout{spec_.seed, g};
    const at::Tensor output = state_.unet().forward(x_t, diffusion_.ModelTimesteps(t), &dropout);
    parts.push_back(loss_(output, x, x_t, t, noise));
    timesteps.push_back(t);
    const at::Tensor loss = parts.back().loss.sum() / static_cast<double>(spec_.batch);
    P2_RETURN_IF_ERROR(reducer_->Backward(loss, /*last=*/i + chunk >= count));
    tick();
  }
  if (times != nullptr) times->End("forward_backward");
  if (on_gradients_) {
    at::Tensor grads = state_.flat().grads();
    on_gradients_(first_sample, grads);
  }

  StepResult result;
  result.terms = {Joined(parts, &diffusion::LossTerms::mse_raw), Joined(parts, &diffusion::LossTerms::mse),
                  Joined(parts, &diffusion::LossTerms::vb), Joined(parts, &diffusion::LossTerms::loss)};
  result.t = at::cat(timesteps);
  result.grad_norm = at::linalg_vector_norm(state_.flat().grads());
  const at::Tensor judged = at::stack({result.grad_norm, result.terms.loss.sum()});
  result.found_inf = at::isfinite(judged).all().logical_not().to(at::kFloat);
  P2_RETURN_IF_ERROR(group_.AllReduceMax(result.found_inf));

  state_.adamw().Step(state_.flat().grads(), result.found_inf);
  for (optim::Ema& ema : state_.emas()) ema.Update(state_.flat().params(), state_.adamw().updates(), result.found_inf);
  if (times != nullptr) times->End("optimizer");
  return result;
}

}  // namespace p2::trainer
