#include "worker/agent/nvml.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/agent/nvml_library.h"

namespace p2::agent {
namespace {

struct Memory {  // nvmlMemory_t
  unsigned long long total, free, used;
};
constexpr unsigned kUuidBytes = 96;  // NVML_DEVICE_UUID_V2_BUFFER_SIZE
constexpr unsigned kNameBytes = 96;  // NVML_DEVICE_NAME_V2_BUFFER_SIZE

}  // namespace

absl::StatusOr<std::vector<Gpu>> ListGpus(const std::string& library) {
  P2_ASSIGN_OR_RETURN(const NvmlLibrary nvml, NvmlLibrary::Open(library));
  int (*count_devices)(unsigned*) = nullptr;
  int (*by_index)(unsigned, NvmlHandle*) = nullptr;
  int (*get_name)(NvmlHandle, char*, unsigned) = nullptr;
  int (*get_uuid)(NvmlHandle, char*, unsigned) = nullptr;
  int (*get_memory)(NvmlHandle, Memory*) = nullptr;
  if (!nvml.Load("nvmlDeviceGetCount_v2", count_devices) || !nvml.Load("nvmlDeviceGetHandleByIndex_v2", by_index) ||
      !nvml.Load("nvmlDeviceGetName", get_name) || !nvml.Load("nvmlDeviceGetUUID", get_uuid) ||
      !nvml.Load("nvmlDeviceGetMemoryInfo", get_memory))
    return absl::NotFoundError(
        absl::StrCat(library, " lacks a function of NVML 11 or later; update the NVIDIA driver"));
  std::vector<Gpu> gpus;
  unsigned count = 0;
  count_devices(&count);
  for (unsigned i = 0; i < count; ++i) {
    NvmlHandle device = nullptr;
    Memory memory = {};
    char name[kNameBytes] = {};
    char uuid[kUuidBytes] = {};
    if (by_index(i, &device) != 0 || get_name(device, name, kNameBytes) != 0 ||
        get_uuid(device, uuid, kUuidBytes) != 0 || get_memory(device, &memory) != 0)
      continue;  // A GPU that does not answer is not offered.
    gpus.push_back({static_cast<int>(i), name, uuid, static_cast<int64_t>(memory.total)});
  }
  return gpus;
}

}  // namespace p2::agent
