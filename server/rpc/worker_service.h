#pragma once

#include "p2/v1/worker_service.grpc.pb.h"
#include "server/rpc/service_context.h"

namespace p2::rpc {

// The workers' streams, bridged to the coordinator's sessions. Each holds two threads: reading may block on the
// coordinator's back-pressure while messages to the worker go on. Thread-safe.
class WorkerService final : public p2::v1::WorkerService::Service {
 public:
  using Stream = grpc::ServerReaderWriter<p2::v1::ConnectResponse, p2::v1::ConnectRequest>;

  explicit WorkerService(ServiceContext& context) : context_(context) {}

  grpc::Status Connect(grpc::ServerContext* call, Stream* stream) override;

 private:
  absl::Status Serve(grpc::ServerContext& call, Stream& stream) const;

  ServiceContext& context_;
};

}  // namespace p2::rpc
