#include "worker/agent/nvml.h"

#include <dlfcn.h>

#include <memory>

#include "absl/strings/str_cat.h"

namespace p2::agent {
namespace {

// NVML's stable ABI (nvml.h of CUDA 13): return 0 is success, devices are opaque pointers.
using Device = void*;
struct Memory {
  unsigned long long total, free, used;
};
constexpr unsigned kUuidBytes = 96;  // NVML_DEVICE_UUID_V2_BUFFER_SIZE
constexpr unsigned kNameBytes = 96;  // NVML_DEVICE_NAME_V2_BUFFER_SIZE

template <typename F>
bool Load(void* library, const char* symbol, F function) {
  function = reinterpret_cast<F>(dlsym(library, symbol));
  return function != nullptr;
}

}  // namespace

absl::StatusOr<std::vector<Gpu>> ListGpus() {
  const std::unique_ptr<void, int (*)(void*)> library(dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL), dlclose);
  if (library == nullptr) return absl::NotFoundError(absl::StrCat("no NVIDIA driver: ", dlerror()));
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  int (*count_devices)(unsigned*) = nullptr;
  int (*by_index)(unsigned, Device*) = nullptr;
  int (*get_name)(Device, char*, unsigned) = nullptr;
  int (*get_uuid)(Device, char*, unsigned) = nullptr;
  int (*get_memory)(Device, Memory*) = nullptr;
  void* const handle = library.get();
  if (!Load(handle, "nvmlInit_v2", init) || !Load(handle, "nvmlShutdown", shutdown) ||
      !Load(handle, "nvmlDeviceGetCount_v2", count_devices) ||
      !Load(handle, "nvmlDeviceGetHandleByIndex_v2", by_index) || !Load(handle, "nvmlDeviceGetName", get_name) ||
      !Load(handle, "nvmlDeviceGetUUID", get_uuid) || !Load(handle, "nvmlDeviceGetMemoryInfo", get_memory))
    return absl::NotFoundError("libnvidia-ml.so.1 lacks a function of NVML 11 or later; update the NVIDIA driver");
  if (const int error = init(); error != 0)
    return absl::NotFoundError(absl::StrCat("NVML does not start (nvmlReturn_t ", error, "); `nvidia-smi` tells more"));
  std::vector<Gpu> gpus;
  unsigned count = 0;
  count_devices(&count);
  for (unsigned i = 0; i < count; ++i) {
    Device device = nullptr;
    Memory memory = {};
    char name[kNameBytes] = {};
    char uuid[kUuidBytes] = {};
    if (by_index(i, &device) != 0 || get_name(device, name, kNameBytes) != 0 ||
        get_uuid(device, uuid, kUuidBytes) != 0 || get_memory(device, &memory) != 0)
      continue;  // A GPU that does not answer is not offered.
    gpus.push_back({static_cast<int>(i), name, uuid, static_cast<int64_t>(memory.total)});
  }
  shutdown();
  return gpus;
}

}  // namespace p2::agent
