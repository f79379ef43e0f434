#include "server/rpc/artifact_service.h"

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "server/rpc/convert.h"
#include "server/rpc/page_token.h"
#include "server/rpc/unary_call.h"
#include "server/rpc/validation.h"

namespace p2::rpc {
namespace {

constexpr int64_t kChunkBytes = 256 * 1024;

}  // namespace

absl::StatusOr<p2::v1::ListArtifactsResponse> ArtifactService::List(const p2::v1::ListArtifactsRequest& request) const {
  P2_ASSIGN_OR_RETURN(const int page_size, PageSize(request.page_size(), 100));
  P2_ASSIGN_OR_RETURN(const scheduler::JobPtr job, context_.FindJob(request.parent()));
  const std::string list = absl::StrCat("artifacts?", job->id, "&", request.kind());
  P2_ASSIGN_OR_RETURN(const int64_t skip, DecodePageNumber(list, request.page_token(), 0));
  P2_ASSIGN_OR_RETURN(std::vector<scheduler::ArtifactRecord> artifacts, context_.store.ListArtifacts(job->id));
  std::sort(artifacts.begin(), artifacts.end(),
            [](const auto& a, const auto& b) { return std::tie(a.create_time, a.id) < std::tie(b.create_time, b.id); });
  p2::v1::ListArtifactsResponse response;
  int64_t seen = 0;
  for (const scheduler::ArtifactRecord& artifact : artifacts) {
    if (!request.kind().empty() && artifact.kind != request.kind()) continue;
    if (seen++ < skip) continue;
    if (response.artifacts_size() == page_size) {
      response.set_next_page_token(EncodePageToken(list, absl::StrCat(skip + page_size)));
      break;
    }
    *response.add_artifacts() = ToProto(artifact);
  }
  return response;
}

absl::Status ArtifactService::Send(const grpc::ServerContext& call, const std::string& name,
                                   grpc::ServerWriter<p2::v1::GetArtifactResponse>& writer) const {
  P2_ASSIGN_OR_RETURN(const auto ids, ParseChildName(kArtifacts, name));
  const auto& [job, id] = ids;
  P2_RETURN_IF_ERROR(context_.FindJob(ResourceName(kJobs, job)).status());
  P2_ASSIGN_OR_RETURN(const std::vector<scheduler::ArtifactRecord> artifacts, context_.store.ListArtifacts(job));
  const auto found =
      std::find_if(artifacts.begin(), artifacts.end(), [&](const auto& artifact) { return artifact.id == id; });
  if (found == artifacts.end()) {
    return ResourceNotFoundError("Artifact", name, absl::StrCat("`p2ctl artifact list ", job, "` shows them"));
  }
  p2::v1::GetArtifactResponse response;
  *response.mutable_artifact() = ToProto(*found);
  for (int64_t offset = 0; !context_.Ended(call);) {
    P2_ASSIGN_OR_RETURN(*response.mutable_data(), context_.blobs.ReadArtifact(job, id, offset, kChunkBytes));
    if (response.data().empty() && offset > 0) return absl::OkStatus();
    offset += static_cast<int64_t>(response.data().size());
    if (!writer.Write(response)) return absl::CancelledError("the client is gone");
    if (response.data().empty()) return absl::OkStatus();
    response.clear_artifact();
  }
  return context_.EndStatus(call);
}

grpc::ServerUnaryReactor* ArtifactService::ListArtifacts(grpc::CallbackServerContext* call,
                                                         const p2::v1::ListArtifactsRequest* request,
                                                         p2::v1::ListArtifactsResponse* response) {
  return Reply(call, response, List(*request));
}

grpc::Status ArtifactService::GetArtifact(grpc::ServerContext* call, const p2::v1::GetArtifactRequest* request,
                                          grpc::ServerWriter<p2::v1::GetArtifactResponse>* writer) {
  return ToGrpcStatus(Send(*call, request->name(), *writer));
}

}  // namespace p2::rpc
