// Server streams that wait for news without holding a thread: a client that watches costs memory alone.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/doorbell.h"
#include "common/status_macros.h"
#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/server_callback.h"
#include "server/rpc/message_bytes.h"

namespace p2::rpc {

// What one stream sends. Confined: calls come one after the other, from any thread, and must not wait.
class StreamSource {
 public:
  virtual ~StreamSource() = default;

  // The next message; nothing: none now, and `wake` will be called. An error ends the stream with it.
  virtual absl::StatusOr<std::optional<grpc::ByteBuffer>> Next() = 0;
  // Once Next has given nothing: true if it never will again, and the stream ends with OK.
  virtual bool AtEnd() const { return false; }
  // Sent when nothing else was for CallTimes::watch_interval; nothing: silence.
  virtual std::optional<grpc::ByteBuffer> Idle() { return std::nullopt; }
};

// Thread-safe.
class PushStreams {
 public:
  // Called from any thread, also after the stream has ended: Next may have something.
  using Wake = std::function<void()>;
  using Opened = absl::StatusOr<std::unique_ptr<StreamSource>>;

  // `idle_after`: CallTimes::watch_interval.
  explicit PushStreams(absl::Duration idle_after);
  // REQUIRES: the server that it serves is gone.
  ~PushStreams();

  // What the method of a stream returns. `open`, an Opened of the request and a Wake, is called at once; its error ends
  // the stream. CANCELLED when the client is gone, RESOURCE_EXHAUSTED beyond 20,000 streams.
  template <typename Request, typename Open>
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(const grpc::ByteBuffer& request, const Open& open) {
    return Start([&](Wake wake) -> Opened {
      P2_ASSIGN_OR_RETURN(const Request parsed, FromBytes<Request>(request));
      return open(parsed, std::move(wake));
    });
  }

  // Ends every stream, and those to come, with `status`.
  void Stop(const absl::Status& status);

 private:
  class Stream;

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Start(const std::function<Opened(Wake)>& open);
  void Run();
  void MakeReady(std::weak_ptr<Stream> stream);
  void Forget(const std::shared_ptr<Stream>& stream);

  // Constant after construction.
  const absl::Duration idle_after_;

  Doorbell bell_;  // Rung when a stream becomes ready, and at the end.
  absl::Mutex mutex_;
  std::set<std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<Stream>> ready_ ABSL_GUARDED_BY(mutex_);
  absl::Status stopped_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;  // Sends what became ready; what follows it goes out on gRPC's threads.
};

}  // namespace p2::rpc
