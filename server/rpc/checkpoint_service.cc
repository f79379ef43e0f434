#include "server/rpc/checkpoint_service.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "server/rpc/page_token.h"
#include "server/rpc/unary_call.h"
#include "server/rpc/validation.h"

namespace p2::rpc {

absl::StatusOr<p2::v1::ListCheckpointsResponse> CheckpointService::List(
    const p2::v1::ListCheckpointsRequest& request) const {
  P2_ASSIGN_OR_RETURN(const int page_size, PageSize(request.page_size(), 100));
  P2_ASSIGN_OR_RETURN(const scheduler::JobPtr job, context_.FindJob(request.parent()));
  const std::string list = absl::StrCat("checkpoints?", job->id);
  P2_ASSIGN_OR_RETURN(const std::string after, DecodePageToken(list, request.page_token()));
  P2_ASSIGN_OR_RETURN(std::vector<scheduler::CheckpointPtr> checkpoints, context_.coordinator.Checkpoints(job->id));
  // The ID begins with the images seen, zero-padded.
  std::sort(checkpoints.begin(), checkpoints.end(), [](const auto& a, const auto& b) { return a->id > b->id; });
  p2::v1::ListCheckpointsResponse response;
  std::string last;
  for (const scheduler::CheckpointPtr& checkpoint : checkpoints) {
    if (!after.empty() && checkpoint->id >= after) continue;
    if (response.checkpoints_size() == page_size) {
      response.set_next_page_token(EncodePageToken(list, last));
      break;
    }
    *response.add_checkpoints() = ToProto(*checkpoint);
    last = checkpoint->id;
  }
  return response;
}

absl::StatusOr<p2::v1::Checkpoint> CheckpointService::Get(const p2::v1::GetCheckpointRequest& request) const {
  P2_ASSIGN_OR_RETURN(const auto name, ParseChildName(kCheckpoints, request.name()));
  const auto& [job, id] = name;
  P2_RETURN_IF_ERROR(context_.FindJob(ResourceName(kJobs, job)).status());
  P2_ASSIGN_OR_RETURN(const std::vector<scheduler::CheckpointPtr> checkpoints, context_.coordinator.Checkpoints(job));
  for (const scheduler::CheckpointPtr& checkpoint : checkpoints) {
    if (checkpoint->id == id) return ToProto(*checkpoint);
  }
  return ResourceNotFoundError("Checkpoint", request.name(), absl::StrCat("`p2ctl ckpt list ", job, "` shows them"));
}

grpc::ServerUnaryReactor* CheckpointService::ListCheckpoints(grpc::CallbackServerContext* call,
                                                             const p2::v1::ListCheckpointsRequest* request,
                                                             p2::v1::ListCheckpointsResponse* response) {
  return Reply(call, response, List(*request));
}

grpc::ServerUnaryReactor* CheckpointService::GetCheckpoint(grpc::CallbackServerContext* call,
                                                           const p2::v1::GetCheckpointRequest* request,
                                                           p2::v1::Checkpoint* response) {
  return Reply(call, response, Get(*request));
}

}  // namespace p2::rpc
