#include "bench/allocation_counter.h"

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <memory>

namespace p2::bench {
namespace {

class Counter final : public c10::MemoryReportingInfoBase {
 public:
  // `size`: negative where memory is given back.
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
    held_ += size;
    found_.peak_bytes = std::max(found_.peak_bytes, held_);
    if (size <= 0) return;
    ++found_.count;
    found_.bytes += size;
  }
  bool memoryProfilingEnabled() const override { return true; }
  const Allocations& found() const { return found_; }

 private:
  int64_t held_ = 0;
  Allocations found_;
};

}  // namespace

Allocations CountAllocations(const std::function<void()>& work) {
  const auto counter = std::make_shared<Counter>();
  const c10::DebugInfoGuard counting(c10::DebugInfoKind::PROFILER_STATE, counter);
  work();
  return counter->found();
}

}  // namespace p2::bench
