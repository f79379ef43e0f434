// Time as a dependency, so that tests and the simulation own it.
#pragma once

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace p2 {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;

  // Wall clock: for people and records. May jump; decides nothing.
  virtual absl::Time Now() const = 0;

  // CLOCK_MONOTONIC as a time since an arbitrary origin: every lease, deadline and backoff runs on it.
  virtual absl::Time Monotonic() const = 0;

  // The machine's clocks. Never destroyed.
  static Clock& Real();
};

}  // namespace p2
