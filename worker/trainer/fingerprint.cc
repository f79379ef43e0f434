#include "worker/trainer/fingerprint.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <torch/version.h>

#include <algorithm>
#include <set>
#include <thread>
#include <torch/csrc/distributed/c10d/NCCLUtils.hpp>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace p2::trainer {
namespace {

// "3.7.1" out of torch's description of its build.
std::string OneDnnVersion() {
  const std::string config = at::show_config();
  const size_t at = config.find("MKL-DNN v");
  if (at == std::string::npos) return "none";
  const size_t begin = at + sizeof("MKL-DNN v") - 1;
  return config.substr(begin, config.find_first_not_of("0123456789.", begin) - begin);
}

const char* NameOf(spec::Precision precision) {
  switch (precision) {
    case spec::Precision::kBf16:
      return "bf16";
    case spec::Precision::kTf32:
      return "tf32";
    case spec::Precision::kFp32:
      break;
  }
  return "fp32";
}

}  // namespace

int ConfigureNumerics(const Place& place, const TrainSpec& spec) {
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const int threads = place.threads > 0 ? place.threads : std::max(1, cores / std::max(1, place.local_world_size));
  at::set_num_threads(threads);
  at::globalContext().setFlushDenormal(true);
  const bool tf32 = spec.precision == spec::Precision::kTf32 && !absl::StartsWith(place.device, "cpu") && at::hasCUDA();
  at::globalContext().setBenchmarkCuDNN(spec.cudnn_autotune);
  at::globalContext().setDeterministicCuDNN(!spec.cudnn_autotune);
  at::globalContext().setAllowTF32CuDNN(tf32);
  at::globalContext().setAllowTF32CuBLAS(tf32);
  return threads;
}

at::Device DeviceOf(const Place& place) {
  if (absl::StartsWith(place.device, "cpu") || (place.device.empty() && !at::hasCUDA())) return at::kCPU;
  if (!place.device.empty()) return at::Device(place.device);
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(place.rank % place.local_world_size));
}

std::map<std::string, std::string> NumericsFingerprint(const TrainOptions& options, at::Device device, int threads,
                                                       int64_t microbatch) {
  const TrainSpec& spec = options.spec;
  std::map<std::string, std::string> fingerprint{
      {"torch", TORCH_VERSION},
      {"onednn", OneDnnVersion()},
      {"cpu_capability", at::get_cpu_capability()},
      {"device", "cpu"},
      {"threads", absl::StrCat(threads)},
      {"precision", NameOf(spec.precision)},
      {"reduction", spec.leaves > 0 ? absl::StrCat("exact, ", spec.leaves, " shards") : "fast"},
  };
  if (spec.leaves == 0) {  // `exact` does not depend on them.
    fingerprint["ranks"] = absl::StrCat(options.place.world_size);
    fingerprint["microbatch"] = absl::StrCat(microbatch);
  }
  if (device.is_cuda()) {
    if (spec.cudnn_autotune) fingerprint["cudnn_autotune"] = "on";
    fingerprint["device"] = at::cuda::getDeviceProperties(device.index())->name;
    fingerprint["cudnn"] = absl::StrCat(at::detail::getCUDAHooks().versionCuDNN());
    fingerprint["nccl"] = c10d::getNcclVersion();
  }
  return fingerprint;
}

std::string DescribeChange(const std::map<std::string, std::string>& before,
                           const std::map<std::string, std::string>& now) {
  std::set<std::string> keys;
  for (const auto& [key, value] : before) keys.insert(key);
  for (const auto& [key, value] : now) keys.insert(key);
  const auto value = [](const auto& map, const std::string& key) {
    const auto found = map.find(key);
    return found == map.end() ? "none" : found->second;
  };
  std::vector<std::string> changes;
  for (const std::string& key : keys) {
    if (value(before, key) != value(now, key))
      changes.push_back(absl::StrCat(key, ": ", value(before, key), " -> ", value(now, key)));
  }
  return absl::StrJoin(changes, "; ");
}

}  // namespace p2::trainer
