#pragma once

#include "p2/v1/log_service.grpc.pb.h"
#include "server/rpc/service_context.h"

namespace p2::rpc {

// Thread-safe. A reader holds one of gRPC's threads.
class LogService final : public p2::v1::LogService::Service {
 public:
  explicit LogService(ServiceContext& context) : context_(context) {}

  grpc::Status ReadLogs(grpc::ServerContext* call, const p2::v1::ReadLogsRequest* request,
                        grpc::ServerWriter<p2::v1::ReadLogsResponse>* writer) override;

 private:
  absl::Status Send(const grpc::ServerContext& call, const p2::v1::ReadLogsRequest& request,
                    grpc::ServerWriter<p2::v1::ReadLogsResponse>& writer) const;

  ServiceContext& context_;
};

}  // namespace p2::rpc
