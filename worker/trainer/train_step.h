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
#include "worker/trainer/step_graph.h"
#include "worker/trainer/step_result.h"
#include "worker/trainer/step_times.h"
#include "worker/trainer/trainer.h"

namespace p2::trainer {

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
  // `forward_backward`, `optimizer` and `ema`; null: where the host only enqueues them.
  absl::StatusOr<StepResult> Run(const at::Tensor& x0, int64_t first_sample, const std::function<void()>& tick,
                                 StepTimes* times);

 private:
  // What differs from step to step. On a GPU kernels read it from the device, so that a recorded step stays valid.
  struct Inputs {
    at::Tensor x0;
    int64_t first_sample = 0;
    double rate_scale = 1;        // Of the learning rate.
    at::Tensor on_device_sample;  // int64 scalar; undefined on a CPU.
    at::Tensor on_device_rate;    // fp32 scalar; undefined on a CPU.
  };

  absl::StatusOr<StepResult> Compute(const Inputs& inputs, const std::function<void()>& tick, StepTimes* times);

  const TrainSpec& spec_;
  RunState& state_;
  const diffusion::GaussianDiffusion& diffusion_;
  const diffusion::TrainingLoss& loss_;
  dist::ProcessGroup& group_;
  const int64_t microbatch_;
  const TrainerHooks& hooks_;
  const std::unique_ptr<dist::GradientReducer> reducer_;
  std::unique_ptr<StepGraph> graph_;  // Null where steps are launched kernel by kernel.
  Inputs recorded_;                   // Those of the graph: their tensors stay.
};

}  // namespace p2::trainer
