#include "worker/agent/nvml_library.h"

#include "absl/strings/str_cat.h"

namespace p2::agent {

absl::StatusOr<NvmlLibrary> NvmlLibrary::Open(const std::string& path) {
  NvmlLibrary nvml(Handle(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL), dlclose));
  if (nvml.library_ == nullptr) return absl::NotFoundError(absl::StrCat("no NVIDIA driver: ", dlerror()));
  int (*init)() = nullptr;
  const bool known = nvml.Load("nvmlInit_v2", init);
  const int error = known ? init() : kNvmlSuccess;
  if (known && error == kNvmlSuccess) return nvml;
  nvml.library_.reset();  // Not started: nothing to shut down.
  if (known)
    return absl::NotFoundError(absl::StrCat("NVML does not start (nvmlReturn_t ", error, "); `nvidia-smi` tells more"));
  return absl::NotFoundError(absl::StrCat(path, " has no nvmlInit_v2; update the NVIDIA driver"));
}

NvmlLibrary::~NvmlLibrary() {
  int (*shutdown)() = nullptr;
  if (library_ != nullptr && Load("nvmlShutdown", shutdown)) shutdown();
}

}  // namespace p2::agent
