// The few facts about GPUs that slots need, from NVIDIA's management library.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace p2::agent {

struct Gpu {
  // Position in NVML's (PCI bus) order.
  int index = 0;
  // `NVIDIA H200`, `GPU-6c2b…`.
  std::string name;
  std::string uuid;
  int64_t memory_bytes = 0;
};

// Every GPU of the machine, by the library `nvml` (nvml_library.h); NOT_FOUND if there is no driver (the message says
// why).
absl::StatusOr<std::vector<Gpu>> ListGpus(const std::string& nvml);

}  // namespace p2::agent
