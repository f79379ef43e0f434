// Where torch's exceptions become a Status. Nothing else in the trainer catches.
#pragma once

#include <c10/util/Exception.h>

#include <exception>
#include <new>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "worker/trainer/exit_code.h"

namespace p2::trainer {

// Runs `fn`, which returns nothing or a Status. RESOURCE_EXHAUSTED for memory of device or host, UNAVAILABLE for a peer
// or the store, INTERNAL for the rest, marked 51 where it is the device's.
template <typename F>
absl::Status RunTorch(const char* what, F&& fn) {
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<F>>) {
      std::forward<F>(fn)();
      return absl::OkStatus();
    } else {
      return std::forward<F>(fn)();
    }
  } catch (const c10::OutOfMemoryError& e) {
    return absl::ResourceExhaustedError(absl::StrCat(what, ": ", e.what_without_backtrace()));
  } catch (const std::bad_alloc& e) {
    return absl::ResourceExhaustedError(absl::StrCat(what, ": out of host memory; lower training.microbatch"));
  } catch (const c10::DistError& e) {  // NCCL or the store: a peer left, a collective timed out.
    return absl::UnavailableError(absl::StrCat(what, ": ", e.what_without_backtrace()));
  } catch (const c10::AcceleratorError& e) {
    return WithExit(ExitCode::kDevice, absl::InternalError(absl::StrCat(what, ": ", e.what_without_backtrace())));
  } catch (const c10::Error& e) {
    const std::string message = absl::StrCat(what, ": ", e.what_without_backtrace());
    // The CPU allocator has no exception of its own.
    if (absl::StrContains(message, "DefaultCPUAllocator")) return absl::ResourceExhaustedError(message);
    return absl::InternalError(message);
  } catch (const std::exception& e) {
    return absl::InternalError(absl::StrCat(what, ": ", e.what()));
  }
}

}  // namespace p2::trainer
