// One step of training on one rank's share of the batch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "worker/diffusion/loss.h"
#include "worker/dist/gradient_reducer.h"
#include "worker/dist/process_group.h"
#include "worker/trainer/run_state.h"
#include "worker/trainer/step_times.h"
#include "worker/trainer/trainer.h"

namespace p2::trainer {

struct StepResult {
  diffusion::LossTerms terms;  // Of this rank's samples, detached, each (b).
  at::Tensor t;                // (b) int64
  at::Tensor grad_norm;        // Scalar, of the sum over all ranks, before clipping.
  at::Tensor found_inf;  // Scalar fp32, 1 if the step changed nothing because a number was not finite, else 0; equal on
                         // all ranks.
};

// Letters: b samples of this rank, B of the batch. Thread-compatible. May throw as torch does.
class TrainStep {
 public:
  // `microbatch`: samples of a forward pass, 0: all of this rank; in `exact` it is the leaf instead. `hooks`: those of
  // a step. The references must outlive it.
  TrainStep(const TrainSpec& spec, RunState& state, const diffusion::GaussianDiffusion& diffusion,
            const diffusion::TrainingLoss& loss, dist::ProcessGroup& group, int64_t microbatch,
            const TrainerHooks& hooks);

  // x0: (b, C, H, W) in [-1, 1] on the device; `first_sample`: g of its first row. Forward, backward, update. The loss
  // is
  //   (sum over the B samples of loss_i) / B, whatever the microbatches and ranks.
  // UNAVAILABLE if a peer left or was frozen. `tick` is called after each microbatch. `times`: takes the phases
  // `forward_backward` and `optimizer`; null: where the host only enqueues them.
  absl::StatusOr<StepResult> Run(const at::Tensor& x0, int64_t first_sample, const std::function<void()>& tick,
                                 StepTimes* times);

 private:
  const TrainSpec& spec_;
  RunState& state_;
  const diffusion::GaussianDiffusion& diffusion_;
  const diffusion::TrainingLoss& loss_;
  dist::ProcessGroup& group_;
  const int64_t microbatch_;
  const TrainerHooks& hooks_;
  const std::unique_ptr<dist::GradientReducer> reducer_;
};

}  // namespace p2::trainer
