// The stream to the coordinator: opened again and again, with jittered backoff, until the session is destroyed. gRPC's
// blocking reads and writes stay on the session's own threads.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/doorbell.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "p2/v1/worker_service.grpc.pb.h"

namespace p2::agent {

// Thread-safe.
class CoordinatorSession {
 public:
  // Called from the session's threads; `stream` counts the streams from 1. Post them elsewhere and return at once.
  struct Callbacks {
    // A stream stands: the first message to Send is Hello.
    std::function<void(uint64_t stream)> on_open;
    std::function<void(uint64_t stream, p2::v1::ConnectResponse)> on_message;
    std::function<void(uint64_t stream, absl::Status why)> on_closed;
  };

  // `unacknowledged`: a connection whose bytes the other side's machine does not acknowledge for so long is given up.
  CoordinatorSession(std::string address, absl::Duration max_backoff, absl::Duration unacknowledged,
                     Callbacks callbacks);
  // Cancels the stream and joins the threads; no callback comes afterwards.
  ~CoordinatorSession();
  CoordinatorSession(const CoordinatorSession&) = delete;
  CoordinatorSession& operator=(const CoordinatorSession&) = delete;

  // Queued in order; dropped if `stream` is not the open one (what must arrive is in the spool).
  void Send(uint64_t stream, p2::v1::ConnectRequest message);
  // Gives `stream` up; a new one follows.
  void Drop(uint64_t stream);
  // A Welcome came: the next backoff starts small again.
  void Welcomed();

 private:
  void Run();
  // One stream from open to end.
  absl::Status RunStream(uint64_t number);
  bool SleepUnlessStopping(absl::Duration duration);

  // Constant after construction.
  const std::string address_;
  const absl::Duration max_backoff_;
  const Callbacks callbacks_;
  const std::shared_ptr<grpc::Channel> channel_;

  Doorbell stop_bell_;
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t open_stream_ ABSL_GUARDED_BY(mutex_) = 0;
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  std::deque<p2::v1::ConnectRequest> outgoing_ ABSL_GUARDED_BY(mutex_);
  int failures_ ABSL_GUARDED_BY(mutex_) = 0;

  std::thread thread_;
};

}  // namespace p2::agent
