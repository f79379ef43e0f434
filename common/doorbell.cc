#include "common/doorbell.h"

#include <algorithm>
#include <utility>

namespace p2 {
namespace {

// Longer ones would leave the clock's range.
constexpr absl::Duration kLongest = absl::Hours(24 * 365);

}  // namespace

void Doorbell::Ring() {
  {
    const std::lock_guard lock(mutex_);
    rung_ = true;
  }
  rings_.notify_one();
}

bool Doorbell::WaitFor(absl::Duration timeout) {
  std::unique_lock lock(mutex_);
  rings_.wait_for(lock, absl::ToChronoNanoseconds(std::min(timeout, kLongest)), [this] { return rung_; });
  return std::exchange(rung_, false);
}

}  // namespace p2
