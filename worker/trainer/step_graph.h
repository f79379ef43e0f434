// A step's kernels as one CUDA graph: recorded once, then launched by one call (training.cuda_graph).
#pragma once

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "worker/dist/process_group.h"
#include "worker/trainer/step_result.h"
#include "worker/trainer/trainer.h"

namespace at::cuda {
struct CUDAGraph;
}

namespace p2::trainer {

// Why steps of `spec` cannot be a graph here, "" if they can. The kernels of a rank that has peers are not recorded:
// a replay is collective, and NCCL's watchdog sees nothing inside of it.
std::string GraphObstacle(const TrainSpec& spec, const dist::ProcessGroup& group, const TrainerHooks& hooks);

// Thread-compatible. The first kWarmUp steps run as always, in the stream of the recording (cuDNN and cuBLAS set
// themselves up, the allocator grows); the next one is recorded. If that fails nothing has happened to the tensors: the
// reason is logged, and all steps run as always.
class StepGraph {
 public:
  using Step = std::function<absl::StatusOr<StepResult>()>;

  explicit StepGraph(at::Device device);
  ~StepGraph();

  // Runs `set_inputs`, which writes what differs from step to step into tensors that stay, and then `step`, which reads
  // them there and enqueues the same kernels with the same shapes every time, or the recording of it. What the current
  // stream holds comes before, what it gets later after. The result's tensors are overwritten by the next call.
  absl::StatusOr<StepResult> Run(const std::function<void()>& set_inputs, const Step& step);

 private:
  static constexpr int kWarmUp = 3;

  // False where it failed, for a reason that was logged.
  bool Record(const Step& step);

  const c10::Stream stream_;
  int steps_ = 0;  // Before the recording.
  bool failed_ = false;
  std::unique_ptr<at::cuda::CUDAGraph> graph_;
  std::optional<StepResult> result_;  // In the graph's own memory.
};

}  // namespace p2::trainer
