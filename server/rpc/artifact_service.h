#pragma once

#include "p2/v1/artifact_service.grpc.pb.h"
#include "server/rpc/service_context.h"

namespace p2::rpc {

using ArtifactServiceBase = p2::v1::ArtifactService::WithCallbackMethod_ListArtifacts<p2::v1::ArtifactService::Service>;

// Thread-safe.
class ArtifactService final : public ArtifactServiceBase {
 public:
  explicit ArtifactService(ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* ListArtifacts(grpc::CallbackServerContext* call,
                                          const p2::v1::ListArtifactsRequest* request,
                                          p2::v1::ListArtifactsResponse* response) override;
  grpc::Status GetArtifact(grpc::ServerContext* call, const p2::v1::GetArtifactRequest* request,
                           grpc::ServerWriter<p2::v1::GetArtifactResponse>* writer) override;

 private:
  absl::StatusOr<p2::v1::ListArtifactsResponse> List(const p2::v1::ListArtifactsRequest& request) const;
  absl::Status Send(const grpc::ServerContext& call, const std::string& name,
                    grpc::ServerWriter<p2::v1::GetArtifactResponse>& writer) const;

  ServiceContext& context_;
};

}  // namespace p2::rpc
