#include "server/rpc/dataset_service.h"

#include <algorithm>
#include <string>
#include <vector>

#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "server/rpc/convert.h"
#include "server/rpc/page_token.h"
#include "server/rpc/unary_call.h"
#include "server/rpc/validation.h"

namespace p2::rpc {

grpc::ServerUnaryReactor* DatasetService::RegisterDataset(grpc::CallbackServerContext* call,
                                                          const p2::v1::RegisterDatasetRequest* request,
                                                          p2::v1::Dataset* response) {
  if (absl::Status status = ValidateDataset(*request); !status.ok()) {
    return Reply<p2::v1::Dataset>(call, response, status);
  }
  auto pending = UnaryCall<p2::v1::Dataset>::Start(call, response, context_.times.timeout);
  context_.coordinator.Post(scheduler::RegisterDataset{.info = MakeCommandInfo(*call, request->request_id(), *request),
                                                       .dataset = FromProto(request->dataset())},
                            [pending](absl::StatusOr<coordinator::Coordinator::Answer> result) {
                              if (!result.ok()) return pending->Finish(result.status());
                              pending->Finish(ToProto(*result->dataset));
                            });
  return pending->reactor();
}

absl::StatusOr<p2::v1::Dataset> DatasetService::Get(const p2::v1::GetDatasetRequest& request) const {
  P2_ASSIGN_OR_RETURN(const std::string id, ParseResourceName(kDatasets, request.name()));
  const coordinator::DatasetList datasets = context_.coordinator.Datasets();
  for (const scheduler::DatasetPtr& dataset : *datasets) {
    if (dataset->id == id) return ToProto(*dataset);
  }
  return ResourceNotFoundError("Dataset", id, "`p2ctl dataset list` shows them");
}

absl::StatusOr<p2::v1::ListDatasetsResponse> DatasetService::List(const p2::v1::ListDatasetsRequest& request) const {
  P2_ASSIGN_OR_RETURN(const int page_size, PageSize(request.page_size(), 100));
  P2_ASSIGN_OR_RETURN(const std::string after, DecodePageToken("datasets", request.page_token()));
  const coordinator::DatasetList datasets = context_.coordinator.Datasets();
  p2::v1::ListDatasetsResponse response;
  std::string last;
  for (const scheduler::DatasetPtr& dataset : *datasets) {
    if (!after.empty() && dataset->id <= after) continue;
    if (response.datasets_size() == page_size) {
      response.set_next_page_token(EncodePageToken("datasets", last));
      break;
    }
    *response.add_datasets() = ToProto(*dataset);
    last = dataset->id;
  }
  return response;
}

grpc::ServerUnaryReactor* DatasetService::GetDataset(grpc::CallbackServerContext* call,
                                                     const p2::v1::GetDatasetRequest* request,
                                                     p2::v1::Dataset* response) {
  return Reply(call, response, Get(*request));
}

grpc::ServerUnaryReactor* DatasetService::ListDatasets(grpc::CallbackServerContext* call,
                                                       const p2::v1::ListDatasetsRequest* request,
                                                       p2::v1::ListDatasetsResponse* response) {
  return Reply(call, response, List(*request));
}

}  // namespace p2::rpc
