// A rank of a training run, from validation to the last checkpoint.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/trainer/events.h"
#include "worker/trainer/exit_code.h"
#include "worker/trainer/train_options.h"

namespace at {
class Tensor;
}

namespace p2::trainer {

// What one forward pass of a step takes and gives; row i is sample first_sample + i. Letters as in train_step.h.
struct Microbatch {
  int64_t first_sample = 0;
  const at::Tensor& x0;         // (n, C, H, W)
  const at::Tensor& t;          // (n)
  const at::Tensor& noise;      // (n, C, H, W)
  uint64_t dropout_sample = 0;  // The sample whose dropout row 0 draws.
  const at::Tensor& output;     // (n, C or 2C, H, W), with its graph.
};

// What ends a run early, and where tests look in.
struct TrainerHooks {
  const std::atomic<bool>* stop = nullptr;         // Set by a signal handler.
  int command_fd = -1;                             // The agent's commands; its end asks for a stop.
  std::function<bool(absl::string_view)> is_stop;  // Whether command bytes hold a Stop.
  std::function<void()> leave_while_forming;       // RankMonitor::Options.
  // Tests: the summed gradients of the step in which this rank's samples begin with `first_sample`, before they are
  // judged.
  std::function<void(int64_t first_sample, at::Tensor& grads)> on_gradients;
  // Tests: after each forward pass. What it throws is thrown by the step.
  std::function<void(const Microbatch&)> on_microbatch;
  // Tests: a thread is about to copy the state for a checkpoint or a snapshot.
  std::function<void()> on_copy;
  // Tests: in the place of AvailableMemory() (available_memory.h).
  std::function<int64_t()> available_memory;
  // Tests: after each step, with the position behind it.
  std::function<void(int64_t images_seen)> on_step;
  std::function<void()> on_stopping;  // Tests: RankMonitor::Options.
};

// Trains until training.images is reached (0), a stop was asked for and its checkpoint is safe (40), or something
// failed. The last event says the same. Threads: the calling one, and those that it starts and joins. `sink` must
// outlive the call.
ExitCode RunTrainer(const TrainOptions& options, EventSink& sink, const TrainerHooks& hooks = {});

// The last event of a rank, and its exit code: done (true), stopped (false) or failed.
ExitCode ReportEnd(const absl::StatusOr<bool>& done, int64_t images_seen, EventSink& sink);

}  // namespace p2::trainer
