#pragma once

#include "p2/v1/checkpoint_service.grpc.pb.h"
#include "server/rpc/service_context.h"

namespace p2::rpc {

// Thread-safe.
class CheckpointService final : public p2::v1::CheckpointService::CallbackService {
 public:
  explicit CheckpointService(ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* ListCheckpoints(grpc::CallbackServerContext* call,
                                            const p2::v1::ListCheckpointsRequest* request,
                                            p2::v1::ListCheckpointsResponse* response) override;
  grpc::ServerUnaryReactor* GetCheckpoint(grpc::CallbackServerContext* call,
                                          const p2::v1::GetCheckpointRequest* request,
                                          p2::v1::Checkpoint* response) override;
  grpc::ServerUnaryReactor* PinCheckpoint(grpc::CallbackServerContext* call,
                                          const p2::v1::PinCheckpointRequest* request,
                                          p2::v1::Checkpoint* response) override;
  grpc::ServerUnaryReactor* DeleteCheckpoint(grpc::CallbackServerContext* call,
                                             const p2::v1::DeleteCheckpointRequest* request,
                                             p2::v1::DeleteCheckpointResponse* response) override;
  grpc::ServerUnaryReactor* CollectCheckpoints(grpc::CallbackServerContext* call,
                                               const p2::v1::CollectCheckpointsRequest* request,
                                               p2::v1::CollectCheckpointsResponse* response) override;

 private:
  // A command on one checkpoint.
  template <typename Response, typename Command>
  absl::StatusOr<Response> Run(const grpc::CallbackServerContext& call, const std::string& request_id,
                               const google::protobuf::Message& request, const std::string& name,
                               Command command) const;
  absl::StatusOr<p2::v1::CollectCheckpointsResponse> Collect(const grpc::CallbackServerContext& call,
                                                             const p2::v1::CollectCheckpointsRequest& request) const;
  absl::StatusOr<p2::v1::ListCheckpointsResponse> List(const p2::v1::ListCheckpointsRequest& request) const;
  absl::StatusOr<p2::v1::Checkpoint> Get(const p2::v1::GetCheckpointRequest& request) const;

  ServiceContext& context_;
};

}  // namespace p2::rpc
