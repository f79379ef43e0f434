// Listens to what NVIDIA's driver reports of the worker's GPUs: critical errors, by XID.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "common/doorbell.h"
#include "p2/v1/cluster_service.pb.h"
#include "p2/v1/worker_service.pb.h"
#include "worker/agent/nvml_library.h"

namespace p2::agent {

class FaultWatch {
 public:
  // On the watch's own thread, which must not wait for what destroys the watch.
  using OnFault = std::function<void(p2::v1::DeviceFault)>;

  // Calls `on_fault` for each error from now on; its count stays 0. `nvml`: path of the library. Where it or its
  // support is missing the log says so, once, and nothing else happens.
  FaultWatch(const std::vector<p2::v1::Slot>& slots, std::string nvml, OnFault on_fault);
  // No call comes afterwards. Waits for NVML, half a second at most.
  ~FaultWatch();
  FaultWatch(const FaultWatch&) = delete;
  FaultWatch& operator=(const FaultWatch&) = delete;

 private:
  struct Device {
    NvmlHandle handle = nullptr;
    std::string slot;
  };

  // Errors say why nothing is watched.
  absl::Status Run();
  absl::Status Register(const NvmlLibrary& nvml, NvmlHandle events);
  void Take(NvmlHandle device, int xid);

  // Constant after construction.
  const std::vector<p2::v1::Slot> slots_;
  const std::string nvml_;
  const OnFault on_fault_;

  Doorbell stop_bell_;

  // Confined to the thread.
  std::vector<Device> devices_;

  std::thread thread_;  // Last: it uses the others.
};

}  // namespace p2::agent
