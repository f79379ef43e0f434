// Ctrl-C as an event that waiting code can see.
#pragma once

#include <atomic>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace p2::ctl {

// While one lives, the first `taken` SIGINTs and SIGTERMs are recorded instead of ending the process; a further one
// ends it as if nothing were installed. At most one at a time. Thread-safe.
class Interrupt {
 public:
  explicit Interrupt(int taken = 1);
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  bool raised() const { return count_ > 0; }
  int count() const { return count_; }
  // The first one: SIGINT or SIGTERM; 0 before.
  int signal_number() const { return signal_number_; }
  // True as soon as it is raised, false after `timeout`.
  bool WaitFor(absl::Duration timeout) const { return raised_.WaitForNotificationWithTimeout(timeout); }
  // Called from another thread when the first signal comes; at once if it has come. Replaces the one before.
  void OnRaise(std::function<void()> callback);

 private:
  void Run();

  const int taken_;
  int pipe_[2] = {-1, -1};
  std::atomic<int> count_ = 0;
  std::atomic<int> signal_number_ = 0;
  absl::Notification raised_;
  absl::Mutex mutex_;
  std::function<void()> callback_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace p2::ctl
