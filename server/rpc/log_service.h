#pragma once

#include "p2/v1/log_service.grpc.pb.h"
#include "server/rpc/service_context.h"

namespace p2::rpc {

// Thread-safe.
class LogService final : public p2::v1::LogService::WithRawCallbackMethod_ReadLogs<p2::v1::LogService::Service> {
 public:
  explicit LogService(ServiceContext& context) : context_(context) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* ReadLogs(grpc::CallbackServerContext* call,
                                                       const grpc::ByteBuffer* request) override;

 private:
  PushStreams::Opened Read(const p2::v1::ReadLogsRequest& request, PushStreams::Wake wake) const;

  ServiceContext& context_;
};

}  // namespace p2::rpc
