// The stream of a worker, as p2d's loop sees it: a queue of what is sent, and room for what comes.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "p2/v1/worker_service.pb.h"

namespace p2::coordinator {

// One connection of one worker. Thread-safe. The stream's handler and the coordinator's loop share it while it stands.
class WorkerSession {
 public:
  WorkerSession(std::string worker, int64_t id) : worker_(std::move(worker)), id_(id) {}

  const std::string& worker() const { return worker_; }
  int64_t id() const { return id_; }

  // Once, for the stream's handler: `ready` is called when Next has something to return again, `room` when more of the
  // worker's messages may be taken up. On any thread, and after the handler is gone.
  void Attach(std::function<void()> ready, std::function<void()> room);

  // Next message to send; empty: none now. An error ends the stream with it: UNAVAILABLE (p2d stops, or a newer stream
  // of this worker took over), or what was wrong with a message of the worker.
  absl::StatusOr<std::optional<p2::v1::ConnectResponse>> Next();

  // Queues a message; dropped once closed (it is issued again at the next connection).
  void Send(p2::v1::ConnectResponse message);
  // The first call counts.
  void Close(absl::Status status);
  // OK while the stream stands, then why it was closed.
  absl::Status status() const;

  // Back-pressure: one more message of this worker waits for the loop. False: enough of them do; `room` will be called.
  bool TakeUp();
  void MessageTaken();

 private:
  // Constant after construction.
  const std::string worker_;
  const int64_t id_;

  mutable absl::Mutex mutex_;
  std::deque<p2::v1::ConnectResponse> outgoing_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> closed_ ABSL_GUARDED_BY(mutex_);
  std::function<void()> ready_ ABSL_GUARDED_BY(mutex_), room_ ABSL_GUARDED_BY(mutex_);
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;
  bool held_up_ ABSL_GUARDED_BY(mutex_) = false;  // TakeUp said no.
};

}  // namespace p2::coordinator
