#include "worker/trainer/train_step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/dist/c10d_reducer.h"
#include "worker/dist/exact_reducer.h"
#include "worker/optim/blocked_norm.h"
#include "worker/random/random_tensors.h"
#include "worker/random/streams.h"

namespace p2::trainer {
namespace {

at::Tensor Joined(const std::vector<diffusion::LossTerms>& parts, at::Tensor diffusion::LossTerms::*term) {
  std::vector<at::Tensor> tensors;
  for (const auto& part : parts) tensors.push_back((part.*term).detach());
  return at::cat(tensors);
}

std::unique_ptr<dist::GradientReducer> MakeReducer(const TrainSpec& spec, RunState& state, dist::ProcessGroup& group) {
  if (spec.leaves > 0) return dist::MakeExactReducer(group, state.flat().grads(), spec.leaves);
  return dist::MakeC10dReducer(group, state.unet().parameters());
}

}  // namespace

TrainStep::TrainStep(const TrainSpec& spec, RunState& state, const diffusion::GaussianDiffusion& diffusion,
                     const diffusion::TrainingLoss& loss, dist::ProcessGroup& group, int64_t microbatch,
                     const TrainerHooks& hooks)
    : spec_(spec),
      state_(state),
      diffusion_(diffusion),
      loss_(loss),
      group_(group),
      microbatch_(spec.leaves > 0 ? spec.batch / spec.leaves : microbatch),
      hooks_(hooks),
      reducer_(MakeReducer(spec, state, group)) {
  if (!spec.cuda_graph) return;
  if (const std::string obstacle = GraphObstacle(spec, group, hooks); !obstacle.empty()) {
    P2_LOG(kInfo) << "no CUDA graph: " << obstacle;
  } else {
    graph_ = std::make_unique<StepGraph>(group.device());
  }
}

absl::StatusOr<StepResult> TrainStep::Run(const at::Tensor& x0, int64_t first_sample, const std::function<void()>& tick,
                                          StepTimes* times) {
  const double done = static_cast<double>(state_.position().images_seen) / static_cast<double>(spec_.images);
  Inputs inputs{x0, first_sample, spec_.anneal_linearly ? 1.0 - done : 1.0, {}, {}};
  const double rate = inputs.rate_scale * spec_.learning_rate;
  if (x0.is_cpu()) return Compute(inputs, tick, times);
  if (!graph_) {
    inputs.on_device_sample = at::full({}, first_sample, x0.options().dtype(at::kLong));
    inputs.on_device_rate = at::full({}, rate, x0.options().dtype(at::kFloat));
    return Compute(inputs, tick, times);
  }
  const auto set_inputs = [&] {
    if (!recorded_.x0.defined()) {
      recorded_.x0 = at::empty_like(x0);
      recorded_.on_device_sample = at::empty({}, x0.options().dtype(at::kLong));
      recorded_.on_device_rate = at::empty({}, x0.options().dtype(at::kFloat));
    }
    recorded_.first_sample = first_sample;
    recorded_.x0.copy_(x0);
    recorded_.on_device_sample.fill_(first_sample);
    recorded_.on_device_rate.fill_(rate);
  };
  absl::StatusOr<StepResult> result = graph_->Run(set_inputs, [&] {
    return Compute(
        recorded_, [] {}, /*times=*/nullptr);
  });
  tick();
  return result;
}

absl::StatusOr<StepResult> TrainStep::Compute(const Inputs& inputs, const std::function<void()>& tick,
                                              StepTimes* times) {
  const at::Tensor& x0 = inputs.x0;
  const int64_t first_sample = inputs.first_sample, count = x0.size(0);  // b
  const int64_t chunk = microbatch_ > 0 ? microbatch_ : count;
  std::vector<diffusion::LossTerms> parts;
  std::vector<at::Tensor> timesteps;
  state_.flat().ZeroGrads();
  state_.RefreshComputeWeights();
  for (int64_t i = 0; i < count; i += chunk) {
    const at::Tensor x = x0.slice(0, i, std::min(i + chunk, count));  // (n, C, H, W)
    const uint64_t g = static_cast<uint64_t>(first_sample + i);
    at::Tensor on_device;  // g
    if (inputs.on_device_sample.defined()) on_device = inputs.on_device_sample + i;
    const at::Tensor t =
        random::Timesteps({spec_.seed, random::kTimestepStream, g, on_device}, x.size(0), spec_.timesteps, x.device());
    const at::Tensor noise = random::Normal({spec_.seed, random::kNoiseStream, g, on_device}, x.sizes(), 0, x.device());
    const at::Tensor x_t = diffusion_.QSample(x, t, noise);
    const model::DropoutContext dropout{spec_.seed, g, on_device};
    const at::Tensor output = state_.unet().forward(x_t, diffusion_.ModelTimesteps(t), &dropout);
    if (hooks_.on_microbatch) hooks_.on_microbatch({first_sample + i, x, t, noise, dropout.first_sample, output});
    parts.push_back(loss_(output, x, x_t, t, noise));
    timesteps.push_back(t);
    const at::Tensor loss = parts.back().loss.sum() / static_cast<double>(spec_.batch);
    P2_RETURN_IF_ERROR(reducer_->Backward(loss, /*last=*/i + chunk >= count));
    tick();
  }
  if (times != nullptr) times->End("forward_backward");
  if (hooks_.on_gradients) {
    at::Tensor grads = state_.flat().grads();
    hooks_.on_gradients(first_sample, grads);
  }

  StepResult result;
  result.terms = {Joined(parts, &diffusion::LossTerms::mse_raw), Joined(parts, &diffusion::LossTerms::mse),
                  Joined(parts, &diffusion::LossTerms::vb), Joined(parts, &diffusion::LossTerms::loss)};
  result.t = at::cat(timesteps);
  result.grad_norm = optim::BlockedNorm(state_.flat().grads());
  const at::Tensor judged = at::stack({result.grad_norm, result.terms.loss.sum()});
  result.found_inf = at::isfinite(judged).all().logical_not().to(at::kFloat);
  P2_RETURN_IF_ERROR(group_.AllReduceMax(result.found_inf));

  if (spec_.clip_grad_norm > 0) {  // As torch.nn.utils.clip_grad_norm_.
    state_.flat().grads().mul_((spec_.clip_grad_norm / (result.grad_norm + 1e-6)).clamp_max(1.0));
  }
  if (times != nullptr) times->End("optimizer");
  // Waits in no recorded step: only copies on the host are waited for.
  const RunState::Updatable update = state_.ToUpdate();
  if (times != nullptr) times->Begin();
  if (inputs.on_device_rate.defined()) {
    update.adamw.StepAt(inputs.on_device_rate, state_.flat().grads(), result.found_inf);
  } else {
    update.adamw.Step(state_.flat().grads(), result.found_inf, inputs.rate_scale);
  }
  if (times != nullptr) times->End("optimizer");
  for (optim::Ema& ema : update.emas) ema.Update(state_.flat().params(), update.adamw.updates(), result.found_inf);
  if (times != nullptr) times->End("ema");
  return result;
}

}  // namespace p2::trainer
