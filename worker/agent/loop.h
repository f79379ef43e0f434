// The agent's one loop thread, on libuv: callbacks posted from other threads, timers, signals, and blocking work done
// aside.
#pragma once

#include <functional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "uv.h"

namespace p2::agent {

// Everything but Post is confined to the thread that calls Run.
class Loop {
 public:
  Loop();
  // REQUIRES: Run is not running. Closes timers and signals and waits for work in the pool, whose `done` is not called:
  // what it is about may be gone.
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Thread-safe. Runs `fn` on the loop's thread, in the order of posting.
  void Post(std::function<void()> fn);
  void Every(absl::Duration period, std::function<void()> fn);
  void OnSignal(int signal, std::function<void()> fn);
  // `work` on a thread of libuv's pool, for what may block (storage); then `done` on the loop's thread.
  void InPool(std::function<void()> work, std::function<void()> done);

  void Run();
  // Run returns after the current callback.
  void Quit() { uv_stop(&loop_); }

  uv_loop_t* uv() { return &loop_; }

 private:
  void RunPosted();

  uv_loop_t loop_;
  uv_async_t wake_;
  bool closing_ = false;
  absl::Mutex mutex_;
  std::vector<std::function<void()>> posted_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::agent
