// What torch's CPU allocator is asked for.
#pragma once

#include <cstdint>
#include <functional>

namespace p2::bench {

struct Allocations {
  int64_t count = 0;
  int64_t bytes = 0;       // Of all of them.
  int64_t peak_bytes = 0;  // The most held at once beyond what was held before.
};

// Of `work`: by the calling thread and the backward passes that it runs. Counting costs time: not for what is timed.
Allocations CountAllocations(const std::function<void()>& work);

}  // namespace p2::bench
