// A timed wait on the monotonic clock. absl's waits end at a wall-clock time: set the clock back by an hour, and a wait
// of 50 ms that is under way lasts an hour and 50 ms. Whatever must go on in time waits here.
#pragma once

#include <condition_variable>
#include <mutex>

#include "absl/time/time.h"

namespace p2 {

// Thread-safe; one thread waits.
class Doorbell {
 public:
  // Ends the wait, or the next one if nobody waits.
  void Ring();
  // True once it was rung; false after `timeout`.
  bool WaitFor(absl::Duration timeout);

 private:
  std::mutex mutex_;
  std::condition_variable rings_;
  bool rung_ = false;  // Guarded by mutex_.
};

}  // namespace p2
