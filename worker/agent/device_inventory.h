// The slots that a worker offers: one rank each.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "p2/v1/cluster_service.pb.h"
#include "worker/agent/nvml.h"

namespace p2::agent {

struct Machine {
  // Processors that this process may use (affinity and cgroup quota), at least 1.
  int cores = 1;
  std::string cpu_model;
  int64_t memory_bytes = 0;
  // GPUs or the reason why there are none.
  absl::StatusOr<std::vector<Gpu>> gpus;
  // CUDA_VISIBLE_DEVICES of this process, if set.
  std::optional<std::string> visible_devices;
};

// `nvml`: path of NVIDIA's library.
Machine ProbeMachine(const std::string& nvml);

// Slots of `spec` on `machine`:
//   cpu:N      N slots `cpu:0`…, each with cores / N threads (at least 1) and an equal share of the memory;
//   cuda:0,1   those GPUs, `cuda:0`, `cuda:1`; positions among the visible ones;
//   auto       every visible GPU; without one, a CPU slot for every 2 cores.
// Of CUDA_VISIBLE_DEVICES, indices and (abbreviated) UUIDs count up to the first unknown entry, as CUDA does.
// INVALID_ARGUMENT says what is wrong with `spec`, FAILED_PRECONDITION what the machine lacks.
absl::StatusOr<std::vector<p2::v1::Slot>> ListSlots(absl::string_view spec, const Machine& machine);

}  // namespace p2::agent
