#pragma once

#include "p2/v1/dataset_service.grpc.pb.h"
#include "server/rpc/service_context.h"

namespace p2::rpc {

// Thread-safe.
class DatasetService final : public p2::v1::DatasetService::CallbackService {
 public:
  explicit DatasetService(ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* RegisterDataset(grpc::CallbackServerContext* call,
                                            const p2::v1::RegisterDatasetRequest* request,
                                            p2::v1::Dataset* response) override;
  grpc::ServerUnaryReactor* GetDataset(grpc::CallbackServerContext* call, const p2::v1::GetDatasetRequest* request,
                                       p2::v1::Dataset* response) override;
  grpc::ServerUnaryReactor* ListDatasets(grpc::CallbackServerContext* call, const p2::v1::ListDatasetsRequest* request,
                                         p2::v1::ListDatasetsResponse* response) override;

 private:
  absl::StatusOr<p2::v1::Dataset> Get(const p2::v1::GetDatasetRequest& request) const;
  absl::StatusOr<p2::v1::ListDatasetsResponse> List(const p2::v1::ListDatasetsRequest& request) const;

  ServiceContext& context_;
};

}  // namespace p2::rpc
