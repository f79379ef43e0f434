// The pipe to the agent and the event log beside it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/trainer/events.h"

namespace p2::trainer {

// Turns an event into a frame (spec_seam.h's EncodeEvent).
using EventEncoder = std::function<std::string(uint64_t sequence, int64_t wall_time_ns, const Event& event)>;

inline constexpr absl::Duration kEventFlushTimeout = absl::Seconds(5);

// Writes each event, numbered from 1 without gaps, to the log and to the pipe. An agent that does not read holds
// nothing up: what the pipe does not take waits in memory, Progress is dropped meanwhile. An agent that is gone is no
// error: the log has all.
class EventPipe final : public EventSink {
 public:
  // `fd`: the pipe's end, -1 for none; becomes non-blocking, is not closed. `log_path`: appended to; empty: none.
  // `flush_timeout`: how long the end waits for an agent that does not read.
  EventPipe(int fd, const std::string& log_path, EventEncoder encode,
            absl::Duration flush_timeout = kEventFlushTimeout);
  // Gives the agent `flush_timeout` to read the rest.
  ~EventPipe() override;

  void Emit(const Event& event) override;

 private:
  void Flush() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const EventEncoder encode_;
  const absl::Duration flush_timeout_;
  absl::Mutex mutex_;
  int fd_ ABSL_GUARDED_BY(mutex_);
  int log_fd_ ABSL_GUARDED_BY(mutex_) = -1;
  uint64_t sequence_ ABSL_GUARDED_BY(mutex_) = 0;
  std::string backlog_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::trainer
