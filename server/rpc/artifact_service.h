#pragma once

#include "p2/v1/artifact_service.grpc.pb.h"
#include "server/rpc/service_context.h"

namespace p2::rpc {

using ArtifactServiceBase = p2::v1::ArtifactService::WithCallbackMethod_ListArtifacts<
    p2::v1::ArtifactService::WithRawCallbackMethod_GetArtifact<p2::v1::ArtifactService::Service>>;

// Thread-safe.
class ArtifactService final : public ArtifactServiceBase {
 public:
  explicit ArtifactService(ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* ListArtifacts(grpc::CallbackServerContext* call,
                                          const p2::v1::ListArtifactsRequest* request,
                                          p2::v1::ListArtifactsResponse* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* GetArtifact(grpc::CallbackServerContext* call,
                                                          const grpc::ByteBuffer* request) override;

 private:
  absl::StatusOr<p2::v1::ListArtifactsResponse> List(const p2::v1::ListArtifactsRequest& request) const;
  PushStreams::Opened Open(const std::string& name) const;

  ServiceContext& context_;
};

}  // namespace p2::rpc
