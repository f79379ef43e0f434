#include "worker/agent/fault_watch.h"

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "common/logging.h"
#include "common/status_macros.h"

namespace p2::agent {
namespace {

// From nvml.h.
struct EventData {  // nvmlEventData_t
  NvmlHandle device;
  unsigned long long event_type, event_data;  // Of an XID event: the XID.
  unsigned gpu_instance, compute_instance;
};
constexpr unsigned long long kXidCriticalError = 0x8;  // nvmlEventTypeXidCriticalError
constexpr int kTimeout = 10;                           // NVML_ERROR_TIMEOUT

constexpr unsigned kWaitMs = 500;
constexpr absl::Duration kErrorPause = absl::Seconds(1);

}  // namespace

FaultWatch::FaultWatch(const std::vector<p2::v1::Slot>& slots, std::string nvml, OnFault on_fault)
    : slots_(slots), nvml_(std::move(nvml)), on_fault_(std::move(on_fault)), thread_([this] {
        if (const absl::Status status = Run(); !status.ok()) {
          P2_LOG(kWarning) << "faults of GPUs are not watched: " << status.message();
        }
      }) {}

FaultWatch::~FaultWatch() {
  stop_bell_.Ring();
  thread_.join();
}

absl::Status FaultWatch::Register(const NvmlLibrary& nvml, NvmlHandle events) {
  int (*by_uuid)(const char*, NvmlHandle*) = nullptr;
  int (*register_events)(NvmlHandle, unsigned long long, NvmlHandle) = nullptr;
  if (!nvml.Load("nvmlDeviceGetHandleByUUID", by_uuid) || !nvml.Load("nvmlDeviceRegisterEvents", register_events))
    return absl::NotFoundError(absl::StrCat(nvml_, " has no events; update the NVIDIA driver"));
  std::vector<std::string> without;
  for (const p2::v1::Slot& slot : slots_) {
    Device device{.slot = slot.id()};
    int error = by_uuid(slot.uuid().c_str(), &device.handle);
    if (error == kNvmlSuccess) error = register_events(device.handle, kXidCriticalError, events);
    if (error == kNvmlSuccess) {
      devices_.push_back(std::move(device));
    } else {
      without.push_back(absl::StrCat(slot.id(), " (nvmlReturn_t ", error, ")"));
    }
  }
  const std::string which = absl::StrCat("the driver gives no events of ", absl::StrJoin(without, ", "));
  if (devices_.empty()) return absl::UnimplementedError(which);
  if (!without.empty()) {
    P2_LOG(kWarning) << which;
  }
  return absl::OkStatus();
}

absl::Status FaultWatch::Run() {
  P2_ASSIGN_OR_RETURN(const NvmlLibrary nvml, NvmlLibrary::Open(nvml_));
  int (*create)(NvmlHandle*) = nullptr;
  int (*wait)(NvmlHandle, EventData*, unsigned) = nullptr;
  int (*free_set)(NvmlHandle) = nullptr;
  if (!nvml.Load("nvmlEventSetCreate", create) || !nvml.Load("nvmlEventSetWait_v2", wait) ||
      !nvml.Load("nvmlEventSetFree", free_set))
    return absl::NotFoundError(absl::StrCat(nvml_, " has no events; update the NVIDIA driver"));
  NvmlHandle events = nullptr;
  if (const int error = create(&events); error != kNvmlSuccess)
    return absl::UnimplementedError(absl::StrCat("nvmlEventSetCreate gives nvmlReturn_t ", error));
  const absl::Cleanup free_events = [&] { free_set(events); };
  P2_RETURN_IF_ERROR(Register(nvml, events));
  int last_error = kNvmlSuccess;
  for (absl::Duration pause; !stop_bell_.WaitFor(pause);) {
    EventData event = {};
    const int error = wait(events, &event, kWaitMs);
    if (error == kNvmlSuccess && event.event_type == kXidCriticalError)
      Take(event.device, static_cast<int>(event.event_data));
    const bool failed = error != kNvmlSuccess && error != kTimeout;
    pause = failed ? kErrorPause : absl::ZeroDuration();
    if (failed && error != last_error) {
      P2_LOG(kWarning) << "waiting for faults of GPUs: nvmlReturn_t " << error << "; `nvidia-smi` tells more";
    }
    if (failed) last_error = error;
  }
  return absl::OkStatus();
}

void FaultWatch::Take(NvmlHandle handle, int xid) {
  const auto device = std::find_if(devices_.begin(), devices_.end(),
                                   [handle](const Device& candidate) { return candidate.handle == handle; });
  if (device == devices_.end()) return;
  p2::v1::DeviceFault fault;
  fault.set_slot(device->slot);
  fault.set_xid(xid);
  on_fault_(std::move(fault));
}

}  // namespace p2::agent
