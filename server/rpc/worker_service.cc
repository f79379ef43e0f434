#include "server/rpc/worker_service.h"

#include <optional>
#include <utility>

#include "common/error_reason.h"
#include "common/logging.h"
#include "common/rpc/grpc_status.h"

namespace p2::rpc {

using coordinator::Coordinator;
using p2::v1::ConnectRequest;
using p2::v1::ConnectResponse;

namespace {

absl::Status Stopping() { return Error(ErrorReason::kShuttingDown, "p2d stops; connect again"); }

}  // namespace

// One message is read and one written at a time. Reading stops while the worker is far ahead of the loop.
class WorkerService::Stream : public grpc::ServerBidiReactor<ConnectRequest, ConnectResponse>,
                              public std::enable_shared_from_this<Stream> {
 public:
  explicit Stream(WorkerService& owner) : owner_(owner) {}

  void Begin() { Read(); }

  void Stop() {
    if (const Coordinator::Session session = Greeted()) return session->Close(Stopping());
    End(Stopping());
  }

  void OnReadDone(bool ok) override {
    const Coordinator::Session session = Greeted();
    if (!ok) {
      return End(session != nullptr ? session->status()
                                    : absl::CancelledError("the worker closed the stream before Hello"));
    }
    if (session == nullptr) return Greet();
    const absl::StatusOr<bool> more = owner_.context_.coordinator.Receive(session, std::move(request_));
    if (!more.ok()) return session->Close(more.status());
    if (*more) Read();
  }
  void OnWriteDone(bool ok) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
    }
    ok ? Write() : End(absl::CancelledError("the worker is gone"));
  }
  void OnCancel() override { End(absl::CancelledError("the worker is gone")); }
  void OnDone() override {
    Coordinator::Session session;
    {
      absl::MutexLock lock(&mutex_);
      done_ = true;
      session = session_;
    }
    if (session != nullptr) Leave(session);
    const std::shared_ptr<Stream> self = shared_from_this();  // Until the end of this call.
    absl::MutexLock lock(&owner_.mutex_);
    owner_.streams_.erase(self);
  }

 private:
  Coordinator::Session Greeted() {
    absl::MutexLock lock(&mutex_);
    return session_;
  }

  void Greet() {
    if (!request_.has_hello()) {
      return End(
          absl::FailedPreconditionError("the first message of a worker's stream must be Hello; is it a p2-worker?"));
    }
    owner_.context_.coordinator.ConnectWorker(
        request_.hello(), [self = shared_from_this()](absl::StatusOr<Coordinator::Session> session) {
          session.ok() ? self->Serve(*std::move(session)) : self->End(session.status());
        });
  }

  void Serve(const Coordinator::Session& session) {
    {
      absl::MutexLock lock(&mutex_);
      session_ = session;
      if (done_) return Leave(session);  // It went while it was greeted.
    }
    const auto self = weak_from_this();  // The session may live longer.
    session->Attach(
        [self] {
          if (const auto stream = self.lock()) stream->Write();
        },
        [self] {
          if (const auto stream = self.lock()) stream->Read();
        });
    Read();
  }

  void Leave(const Coordinator::Session& session) {
    if (const absl::Status end = session->status(); !end.ok()) {
      P2_LOG(kWarning) << "stream of worker " << session->worker() << " ended: " << end.ToString();
    }
    owner_.context_.coordinator.Disconnect(session);
  }

  void Read() {
    // Held: no read may begin behind Finish. gRPC runs OnReadDone elsewhere or later, never within StartRead.
    absl::MutexLock lock(&mutex_);
    if (!finished_) StartRead(&request_);
  }

  // Sends what is next, or ends the stream, unless a message is under way.
  void Write() {
    std::optional<absl::Status> end;
    {
      absl::MutexLock lock(&mutex_);
      if (writing_ || finished_) return;
      if (!end_.has_value()) {
        if (session_ == nullptr) return;
        absl::StatusOr<std::optional<ConnectResponse>> next = session_->Next();
        if (next.ok() && !next->has_value()) return;
        if (next.ok()) {
          response_ = **std::move(next);
          writing_ = true;
        } else {
          end_ = next.status();
        }
      }
      finished_ = end_.has_value();
      end = end_;
    }
    // Unlocked: gRPC may react on this thread.
    end.has_value() ? Finish(ToGrpcStatus(*end)) : StartWrite(&response_);
  }

  // The first status counts.
  void End(const absl::Status& status) {
    {
      absl::MutexLock lock(&mutex_);
      if (!end_.has_value()) end_ = status;
    }
    Write();
  }

  // Constant after construction.
  WorkerService& owner_;

  ConnectRequest request_;    // gRPC's while a read is under way, then OnReadDone's.
  ConnectResponse response_;  // Set under mutex_, then gRPC's while writing_.
  absl::Mutex mutex_;
  Coordinator::Session session_ ABSL_GUARDED_BY(mutex_);  // Null before the welcome.
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

grpc::ServerBidiReactor<ConnectRequest, ConnectResponse>* WorkerService::Connect(grpc::CallbackServerContext*) {
  auto stream = std::make_shared<Stream>(*this);
  bool stopped = false;
  {
    absl::MutexLock lock(&mutex_);
    streams_.insert(stream);
    stopped = stopped_;
  }
  stopped ? stream->Stop() : stream->Begin();
  return stream.get();
}

void WorkerService::Stop() {
  std::set<std::shared_ptr<Stream>> streams;
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    streams = streams_;
  }
  for (const std::shared_ptr<Stream>& stream : streams) stream->Stop();
}

}  // namespace p2::rpc
