// A rank's side thread: heartbeat and progress for the agent's watchdog, and the agreement on where to stop
// (TRAINING.md 6).
//
// Stopping: any rank that is asked to (SIGTERM, a Stop command, the agent's death) sets `stop` in the gang's store.
// Each rank's side thread sees it and publishes the last iteration that its rank enqueued; the gang stops after the
// highest of them + 1, which all compute alike. No collective is involved, so a step costs nothing more, and p2d is not
// needed.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/doorbell.h"
#include "worker/dist/process_group.h"
#include "worker/trainer/events.h"

namespace p2::trainer {

// Thread-safe.
class RankMonitor {
 public:
  struct Options {
    const std::atomic<bool>* stop = nullptr;         // Set by a signal handler; may be null.
    int command_fd = -1;                             // Commands of the agent; its end is a request to stop. -1: none.
    std::function<bool(absl::string_view)> is_stop;  // Whether the bytes read so far hold a Stop command.
    absl::Duration stop_deadline = absl::Seconds(60);
    // Called by the side thread when a stop is asked for while the gang is forming, where nothing can be interrupted
    // and no state is at risk: ends the process. Null: the gang forms first.
    std::function<void()> leave_while_forming;
    // Called once by the side thread, when a stop has reached this rank and it has told the others how far it is.
    std::function<void()> on_stopping;
  };

  // `sink` must outlive it.
  RankMonitor(Options options, EventSink& sink);
  ~RankMonitor();

  // Progress. A tick stands for work that was done, never for time that passed.
  void SetPhase(Phase phase) { phase_ = phase; }
  Phase phase() const { return phase_; }
  void Tick() { ++tick_; }
  // A step ended on the device; `images_seen` is the position behind it, `trained` the samples it trained on (all
  // ranks).
  void Completed(int64_t images_seen, int64_t trained);

  // Around the forming of the gang. Afterwards a stop is the whole gang's; `group` must outlive the monitor.
  void Forming() { forming_ = true; }
  absl::Status Formed(dist::ProcessGroup& group);

  // Before this rank tells the others that it leaves: the store may end at any time from now on.
  void Left();

  // True once a stop was asked for, here or (after Formed) anywhere in the gang: long work that can be left out is cut
  // short.
  bool stopping() const { return stopping_; }

  // Before iteration `n` (1, 2, …) is enqueued: whether it may be. False on all ranks for the same n. UNAVAILABLE if a
  // rank did not answer a stop in time.
  absl::StatusOr<bool> MayEnqueue(int64_t n);

 private:
  void Loop();
  bool StopAsked();
  absl::Status AgreeOnStop();
  void Report();

  const Options options_;
  EventSink& sink_;
  std::atomic<Phase> phase_{Phase::kStart};
  std::atomic<uint64_t> tick_{0};
  std::atomic<int64_t> images_seen_{0};
  std::atomic<bool> forming_{false};
  std::atomic<bool> stopping_{false};

  // Confined to the side thread.
  bool asked_ = false;
  bool posted_ = false;
  std::string commands_;
  bool commands_open_ = true;

  absl::Mutex store_mutex_;  // Held while the side thread talks to the store; taken before mutex_.
  bool left_ ABSL_GUARDED_BY(store_mutex_) = false;

  Doorbell done_;

  absl::Mutex mutex_;
  int rank_ ABSL_GUARDED_BY(mutex_) = 0;
  int world_size_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<dist::JobStore> store_ ABSL_GUARDED_BY(mutex_);  // Set once; its calls are the side thread's.
  int64_t enqueued_ ABSL_GUARDED_BY(mutex_) = 0;
  bool published_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<int64_t> last_ ABSL_GUARDED_BY(mutex_);  // The agreed last iteration.
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  double images_per_second_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time rate_time_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();

  std::thread thread_;  // Last: starts when all of the above is there.
};

// Key of the store under which rank 0 shows its ticks while the others wait for it.
inline constexpr char kRankZeroTickKey[] = "rank0/tick";

}  // namespace p2::trainer
