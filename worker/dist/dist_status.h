// The one place where what c10d throws becomes a Status. Private to worker/dist.
#pragma once

#include <c10/util/Exception.h>

#include <exception>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace p2::dist {

// UNAVAILABLE for whatever a store or a collective throws (Gloo: plain std::runtime_error): a peer left, was frozen for
// longer than the timeout, or cannot be reached. Out of memory is the caller's and passes through.
template <typename F>
absl::Status RunDist(absl::string_view what, F&& fn) {
  try {
    std::forward<F>(fn)();
    return absl::OkStatus();
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error& e) {
    return absl::UnavailableError(absl::StrCat(what, ": ", e.what_without_backtrace()));
  } catch (const std::exception& e) {
    return absl::UnavailableError(absl::StrCat(what, ": ", e.what()));
  }
}

}  // namespace p2::dist
