#include "worker/trainer/step_graph.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/cuda/CUDACachingAllocator.h>

#include <exception>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "worker/random/random_tensors.h"

namespace p2::trainer {
namespace {

// `after` gets nothing done before all that `before` holds is.
void Order(const c10::Stream& before, const c10::Stream& after) {
  c10::Event event(before.device_type());
  event.record(before);
  event.block(after);
}

std::string FirstLine(const std::exception& e) {
  const std::string text = e.what();
  return text.substr(0, text.find('\n'));
}

}  // namespace

std::string GraphObstacle(const TrainSpec& spec, const dist::ProcessGroup& group, const TrainerHooks& hooks) {
  if (!group.device().is_cuda()) return absl::StrCat("the device is ", group.device().str());
  if (group.world_size() > 1) return absl::StrCat("gradients of ", group.world_size(), " ranks meet inside the step");
  if (group.c10d()) return "a backend was named for the only rank";
  if (spec.leaves > 0) return "reduction: exact";
  if (!random::HasCudaKernels()) return "this build has no CUDA kernels for the random map";
  if (hooks.on_microbatch || hooks.on_gradients) return "a hook looks into the step";
  return "";
}

StepGraph::StepGraph(at::Device device)
    : stream_(c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, /*isHighPriority=*/false)) {}

StepGraph::~StepGraph() = default;

absl::StatusOr<StepResult> StepGraph::Run(const std::function<void()>& set_inputs, const Step& step) {
  const c10::Stream outside = c10::impl::VirtualGuardImpl(stream_.device_type()).getStream(stream_.device());
  Order(outside, stream_);
  absl::StatusOr<StepResult> result = absl::InternalError("no step");
  {
    const c10::StreamGuard guard(stream_);
    set_inputs();
    if (!graph_ && !failed_ && steps_++ >= kWarmUp) failed_ = !Record(step);
    if (graph_) {
      graph_->replay();
      result = *result_;
    } else {
      result = step();
    }
  }
  Order(stream_, outside);
  return result;
}

bool StepGraph::Record(const Step& step) {
  stream_.synchronize();
  c10::cuda::CUDACachingAllocator::emptyCache();  // The graph has memory of its own.
  auto graph = std::make_unique<at::cuda::CUDAGraph>();
  std::string reason;
  bool recording = false;
  try {
    // Thread-local: other threads read ahead, write checkpoints and call the allocator meanwhile.
    graph->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    recording = true;
    const absl::StatusOr<StepResult> result = step();
    recording = false;
    graph->capture_end();
    if (result.ok()) {
      result_ = *result;
      graph_ = std::move(graph);
      P2_LOG(kInfo) << "the step is one CUDA graph from here on";
      return true;
    }
    reason = std::string(result.status().message());
  } catch (const std::exception& e) {
    reason = FirstLine(e);
  }
  if (recording) {
    try {
      graph->capture_end();
    } catch (const std::exception&) {  // The recording was broken off: it says so once more.
      c10::cuda::CUDACachingAllocator::endAllocateToPool(stream_.device_index(), graph->pool());
    }
  }
  P2_LOG(kWarning) << "no CUDA graph: recording the step failed: " << reason;
  return false;
}

}  // namespace p2::trainer
