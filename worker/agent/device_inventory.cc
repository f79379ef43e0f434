#include "worker/agent/device_inventory.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <set>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/status_macros.h"
#include "worker/agent/files.h"

namespace p2::agent {
namespace {

constexpr int kMaxCpuSlots = 256;

// The tightest cgroup-v2 CPU quota on the way from this process's group to the root, in cores.
double CgroupCores() {
  double cores = std::numeric_limits<double>::infinity();
  const std::string groups = ReadFile("/proc/self/cgroup", 1 << 16).value_or("");
  for (absl::string_view line : absl::StrSplit(groups, '\n')) {
    if (!absl::ConsumePrefix(&line, "0::")) continue;
    std::string path(line);
    while (true) {
      const std::string limit = ReadFile(absl::StrCat("/sys/fs/cgroup", path, "/cpu.max"), 256).value_or("");
      const std::vector<std::string> parts = absl::StrSplit(limit, absl::ByAnyChar(" \n"), absl::SkipEmpty());
      double quota = 0, period = 0;
      if (parts.size() == 2 && absl::SimpleAtod(parts[0], &quota) && absl::SimpleAtod(parts[1], &period) && period > 0)
        cores = std::min(cores, quota / period);
      const size_t slash = path.rfind('/');
      if (slash == std::string::npos || path == "/") break;
      path.resize(slash);
    }
  }
  return cores;
}

std::vector<Gpu> VisibleGpus(const std::vector<Gpu>& gpus, const std::optional<std::string>& visible) {
  if (!visible.has_value()) return gpus;
  std::vector<Gpu> chosen;
  for (const absl::string_view entry : absl::StrSplit(*visible, ',')) {
    int index = -1;
    const bool numeric = absl::SimpleAtoi(entry, &index);
    const auto found = std::find_if(gpus.begin(), gpus.end(), [&](const Gpu& gpu) {
      return numeric ? gpu.index == index
                     : !entry.empty() && absl::string_view(gpu.uuid).substr(0, entry.size()) == entry;
    });
    if (found == gpus.end()) break;
    chosen.push_back(*found);
  }
  return chosen;
}

std::vector<p2::v1::Slot> CpuSlots(int count, const Machine& machine) {
  std::vector<p2::v1::Slot> slots(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    slots[i].set_id(absl::StrCat("cpu:", i));
    slots[i].set_kind("cpu");
    slots[i].set_device_name(machine.cpu_model);
    slots[i].set_memory_bytes(machine.memory_bytes / count);
    slots[i].set_threads(std::max(1, machine.cores / count));
  }
  return slots;
}

p2::v1::Slot CudaSlot(int position, const Gpu& gpu) {
  p2::v1::Slot slot;
  slot.set_id(absl::StrCat("cuda:", position));
  slot.set_kind("cuda");
  slot.set_device_name(gpu.name);
  slot.set_uuid(gpu.uuid);
  slot.set_memory_bytes(gpu.memory_bytes);
  return slot;
}

}  // namespace

Machine ProbeMachine(const std::string& nvml) {
  Machine machine{.gpus = ListGpus(nvml)};
  cpu_set_t set;
  CPU_ZERO(&set);
  const double allowed = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
  machine.cores = std::max(1, static_cast<int>(std::floor(std::min(allowed, CgroupCores()))));
  machine.memory_bytes = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  machine.cpu_model = "CPU";
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);)
    if (const size_t colon = line.find(": "); line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      machine.cpu_model = line.substr(colon + 2);
      break;
    }
  if (const char* visible = std::getenv("CUDA_VISIBLE_DEVICES"); visible != nullptr) machine.visible_devices = visible;
  return machine;
}

absl::StatusOr<std::vector<p2::v1::Slot>> ListSlots(absl::string_view spec, const Machine& machine) {
  const std::vector<Gpu> gpus =
      machine.gpus.ok() ? VisibleGpus(*machine.gpus, machine.visible_devices) : std::vector<Gpu>();
  std::vector<p2::v1::Slot> slots;
  absl::string_view list = spec;
  if (spec == "auto") {
    if (gpus.empty()) return CpuSlots(std::clamp(machine.cores / 2, 1, kMaxCpuSlots), machine);
    for (size_t i = 0; i < gpus.size(); ++i) slots.push_back(CudaSlot(static_cast<int>(i), gpus[i]));
    return slots;
  }
  if (absl::ConsumePrefix(&list, "cpu:")) {
    int count = 0;
    if (!absl::SimpleAtoi(list, &count) || count < 1 || count > kMaxCpuSlots)
      return absl::InvalidArgumentError(
          absl::StrCat("--devices \"", spec, "\": a number of slots from 1 to ", kMaxCpuSlots, " follows cpu:"));
    return CpuSlots(count, machine);
  }
  if (!absl::ConsumePrefix(&list, "cuda:"))
    return absl::InvalidArgumentError(absl::StrCat("--devices \"", spec, "\" is not cpu:N, cuda:0,1 or auto"));
  std::set<int> chosen;
  for (const absl::string_view entry : absl::StrSplit(list, ',')) {
    int position = -1;
    if (!absl::SimpleAtoi(entry, &position) || position < 0)
      return absl::InvalidArgumentError(
          absl::StrCat("--devices \"", spec, "\": \"", entry, "\" is not the number of a GPU"));
    if (!chosen.insert(position).second)
      return absl::InvalidArgumentError(absl::StrCat("--devices \"", spec, "\" names GPU ", position, " twice"));
    if (position >= static_cast<int>(gpus.size()))
      return absl::FailedPreconditionError(absl::StrCat(
          "--devices \"", spec, "\": there is no GPU ", position, "; ",
          machine.gpus.ok() ? absl::StrCat(gpus.size(), " visible here") : std::string(machine.gpus.status().message()),
          "; cpu:N offers CPU slots"));
    slots.push_back(CudaSlot(position, gpus[static_cast<size_t>(position)]));
  }
  return slots;
}

}  // namespace p2::agent
