// What NVIDIA's driver reports of GPUs: XIDs, and which of them speak against the node.
#pragma once

#include <string>

#include "server/scheduler/types.h"

namespace p2::scheduler {

// The program on the GPU did it, by itself or by being ended; the GPU is well. NVIDIA's own list: internal/rm/health.go
// of NVIDIA/k8s-device-plugin, "Application errors: the GPU should still be healthy".
bool IsApplicationFault(int xid);

// "XID 79 on cuda:3 (GPU has fallen off the bus; reported 2 times)".
std::string Describe(const DeviceFault& fault);

}  // namespace p2::scheduler
