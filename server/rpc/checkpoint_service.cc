#include "server/rpc/checkpoint_service.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "server/rpc/convert.h"
#include "server/rpc/page_token.h"
#include "server/rpc/unary_call.h"
#include "server/rpc/validation.h"
#include "server/scheduler/retention.h"

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

template <typename Response, typename Command>
absl::StatusOr<Response> CheckpointService::Run(const grpc::CallbackServerContext& call, const std::string& request_id,
                                                const google::protobuf::Message& request, const std::string& name,
                                                Command command) const {
  P2_RETURN_IF_ERROR(ValidateCommand(request_id, ""));
  const auto parsed = ParseChildName(kCheckpoints, name);
  if (!parsed.ok()) return BadRequestError({{"name", std::string(parsed.status().message())}});
  std::tie(command.job, command.checkpoint) = *parsed;
  command.info = MakeCommandInfo(call, request_id, request);
  P2_RETURN_IF_ERROR(context_.coordinator.Execute(std::move(command)).status());
  return Response();
}

absl::StatusOr<p2::v1::CollectCheckpointsResponse> CheckpointService::Collect(
    const grpc::CallbackServerContext& call, const p2::v1::CollectCheckpointsRequest& request) const {
  P2_RETURN_IF_ERROR(ValidateCommand(request.request_id(), ""));
  P2_ASSIGN_OR_RETURN(const scheduler::JobPtr job, context_.FindJob(request.parent()));
  p2::v1::CollectCheckpointsResponse response;
  P2_RETURN_IF_ERROR(context_.coordinator.Inquire(job->id, [&](const coordinator::Coordinator::Inside& inside) {
    for (const scheduler::RetentionVerdict& verdict : scheduler::JudgeCheckpoints(inside.state, job->id)) {
      p2::v1::CollectCheckpointsResponse::Verdict& m = *response.add_verdicts();
      m.set_name(ChildName(job->id, kCheckpoints, verdict.checkpoint->id));
      m.set_keep(verdict.keep);
      m.set_why(verdict.why);
      m.set_size_bytes(verdict.checkpoint->size_bytes);
    }
  }));
  if (request.validate_only()) return response;
  P2_RETURN_IF_ERROR(
      context_.coordinator
          .Execute(scheduler::CollectCheckpoints{MakeCommandInfo(call, request.request_id(), request), job->id})
          .status());
  return response;
}

grpc::ServerUnaryReactor* CheckpointService::PinCheckpoint(grpc::CallbackServerContext* call,
                                                           const p2::v1::PinCheckpointRequest* request,
                                                           p2::v1::Checkpoint* response) {
  std::vector<FieldViolation> violations;
  CheckText("note", request->note(), violations);
  absl::Status status = BadRequestError(violations);
  if (status.ok()) {
    scheduler::PinCheckpoint command;
    command.note = request->note();
    command.pinned = request->pinned();
    status =
        Run<p2::v1::Checkpoint>(*call, request->request_id(), *request, request->name(), std::move(command)).status();
  }
  p2::v1::GetCheckpointRequest get;
  get.set_name(request->name());
  return Reply(call, response, status.ok() ? Get(get) : absl::StatusOr<p2::v1::Checkpoint>(status));
}

grpc::ServerUnaryReactor* CheckpointService::DeleteCheckpoint(grpc::CallbackServerContext* call,
                                                              const p2::v1::DeleteCheckpointRequest* request,
                                                              p2::v1::DeleteCheckpointResponse* response) {
  return Reply(call, response,
               Run<p2::v1::DeleteCheckpointResponse>(*call, request->request_id(), *request, request->name(),
                                                     scheduler::DeleteCheckpoint()));
}

grpc::ServerUnaryReactor* CheckpointService::CollectCheckpoints(grpc::CallbackServerContext* call,
                                                                const p2::v1::CollectCheckpointsRequest* request,
                                                                p2::v1::CollectCheckpointsResponse* response) {
  return Reply(call, response, Collect(*call, *request));
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
