// NVIDIA's management library, loaded at run time: no driver, no library. Its ABI is stable; declared by hand where it
// is called, from nvml.h of CUDA 13 (docs.nvidia.com/deploy/nvml-api): every function returns an nvmlReturn_t, handles
// are opaque pointers.
#pragma once

#include <dlfcn.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace p2::agent {

inline constexpr char kNvmlLibrary[] = "libnvidia-ml.so.1";
inline constexpr int kNvmlSuccess = 0;
using NvmlHandle = void*;  // nvmlDevice_t, nvmlEventSet_t.

// Thread-safe, as NVML is.
class NvmlLibrary {
 public:
  // Loads and starts it. NOT_FOUND says why that is impossible.
  static absl::StatusOr<NvmlLibrary> Open(const std::string& path);
  NvmlLibrary(NvmlLibrary&& other) = default;
  ~NvmlLibrary();

  // False if the library has no `symbol`: it is too old. REQUIRES: F is the function's type.
  template <typename F>
  bool Load(const char* symbol, F*& function) const {
    function = reinterpret_cast<F*>(dlsym(library_.get(), symbol));
    return function != nullptr;
  }

 private:
  using Handle = std::unique_ptr<void, int (*)(void*)>;
  explicit NvmlLibrary(Handle library) : library_(std::move(library)) {}

  Handle library_;
};

}  // namespace p2::agent
