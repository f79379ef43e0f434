#include "server/scheduler/device_faults.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace p2::scheduler {
namespace {

// In the words of NVIDIA's catalog (docs.nvidia.com/deploy/xid-errors); the rarer ones are left to it.
absl::string_view NameOf(int xid) {
  switch (xid) {
    case 48:
      return "double bit ECC error";
    case 61:
      return "internal micro-controller breakpoint or warning";
    case 62:
      return "internal micro-controller halt";
    case 63:
      return "ECC page retirement or row remapping recorded";
    case 64:
      return "ECC page retirement or row remapping failed";
    case 74:
      return "NVLink error";
    case 79:
      return "GPU has fallen off the bus";
    case 92:
      return "high single-bit ECC error rate";
    case 94:
      return "contained ECC error";
    case 95:
      return "uncontained ECC error";
    case 119:
      return "GSP RPC timeout";
    case 120:
      return "GSP error";
    default:
      return "see NVIDIA's catalog of XIDs";
  }
}

}  // namespace

bool IsApplicationFault(int xid) {
  switch (xid) {
    case 13:   // Graphics engine exception.
    case 31:   // GPU memory page fault.
    case 43:   // GPU stopped processing.
    case 45:   // Preemptive cleanup, due to previous errors.
    case 68:   // Video processor exception.
    case 109:  // Context switch timeout.
      return true;
    default:
      return false;
  }
}

std::string Describe(const DeviceFault& fault) {
  return absl::StrCat("XID ", fault.xid, " on ", fault.slot, " (", NameOf(fault.xid),
                      fault.count > 1 ? absl::StrCat("; reported ", fault.count, " times") : "", ")");
}

}  // namespace p2::scheduler
