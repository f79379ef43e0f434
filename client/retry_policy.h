// When a failed call is tried again, and after what wait.
#pragma once

#include <optional>

#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace p2::client {

// True for failures of the connection, which say nothing about the request: UNAVAILABLE, and what gRPC makes of a
// stream that was cut (a reset reported as INTERNAL).
bool IsConnectionLost(const absl::Status& status);

// Waits that double from `initial` to `max`, each drawn from [half, whole] so that many clients do not come back at
// once. Thread-compatible.
class Backoff {
 public:
  // REQUIRES: 0 < initial <= max.
  Backoff(absl::Duration initial, absl::Duration max) : initial_(initial), max_(max), next_(initial) {}

  absl::Duration Next();
  void Reset() { next_ = initial_; }

 private:
  const absl::Duration initial_;
  const absl::Duration max_;
  absl::Duration next_;
  absl::BitGen random_;
};

// The tries of one unary call. Thread-compatible.
class RetryPolicy {
 public:
  // REQUIRES: max_attempts >= 1.
  RetryPolicy(int max_attempts, Backoff backoff) : attempts_left_(max_attempts), backoff_(std::move(backoff)) {}

  // The wait before the next try after `failure`; nullopt: give up. `time_left`: to the call's deadline.
  std::optional<absl::Duration> NextWait(const absl::Status& failure, absl::Duration time_left);

 private:
  int attempts_left_;
  Backoff backoff_;
};

}  // namespace p2::client
