#include "server/rpc/worker_service.h"

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "common/error_reason.h"
#include "common/logging.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"

namespace p2::rpc {

using coordinator::WorkerSession;

absl::Status WorkerService::Serve(grpc::ServerContext& call, Stream& stream) const {
  p2::v1::ConnectRequest message;
  if (!stream.Read(&message)) return absl::CancelledError("the worker closed the stream before Hello");
  if (!message.has_hello()) {
    return absl::FailedPreconditionError("the first message of a worker's stream must be Hello; is it a p2-worker?");
  }
  P2_ASSIGN_OR_RETURN(const std::shared_ptr<WorkerSession> session,
                      context_.coordinator.ConnectWorker(message.hello()));

  std::atomic<bool> reading = true;
  std::thread writer([&] {
    while (reading.load()) {
      if (context_.stopping.load()) session->Close(Error(ErrorReason::kShuttingDown, "p2d stops; connect again"));
      const absl::StatusOr<std::optional<p2::v1::ConnectResponse>> next = session->Next(kStreamPoll);
      if (next.ok() && (!next->has_value() || stream.Write(**next))) continue;
      // Only a cancelled call wakes the reading thread; the worker sees CANCELLED and connects again.
      if (reading.load()) call.TryCancel();
      return;
    }
  });
  while (stream.Read(&message)) {
    if (absl::Status status = context_.coordinator.Receive(session, std::move(message)); !status.ok()) {
      session->Close(std::move(status));
      break;
    }
  }
  reading = false;
  writer.join();
  const absl::Status end = session->status();
  if (!end.ok()) {
    P2_LOG(kWarning) << "stream of worker " << session->worker() << " ended: " << end.ToString();
  }
  context_.coordinator.Disconnect(session);
  return end;
}

grpc::Status WorkerService::Connect(grpc::ServerContext* call, Stream* stream) {
  return ToGrpcStatus(Serve(*call, *stream));
}

}  // namespace p2::rpc
