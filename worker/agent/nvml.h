// The few facts about GPUs that slots need, from NVIDIA's management library, loaded at run time: no driver, no
// library.
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

// Every GPU of the machine; NOT_FOUND if there is no driver (the message says why).
absl::StatusOr<std::vector<Gpu>> ListGpus();

}  // namespace p2::agent
