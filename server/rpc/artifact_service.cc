#include "server/rpc/artifact_service.h"

#include <algorithm>
#include <memory>
#include <optional>
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

// What a stream holds while a slow client reads.
constexpr int64_t kChunkBytes = 64 * 1024;

// The artifact's record with the first bytes, then the other ones.
class ArtifactSource : public StreamSource {
 public:
  ArtifactSource(const ServiceContext& context, const scheduler::ArtifactRecord& artifact)
      : context_(context), job_(artifact.job), id_(artifact.id) {
    *message_.mutable_artifact() = ToProto(artifact);
  }

  absl::StatusOr<std::optional<grpc::ByteBuffer>> Next() override {
    if (at_end_) return std::nullopt;
    P2_ASSIGN_OR_RETURN(*message_.mutable_data(), context_.blobs.ReadArtifact(job_, id_, offset_, kChunkBytes));
    at_end_ = message_.data().empty();
    if (at_end_ && offset_ > 0) return std::nullopt;
    offset_ += static_cast<int64_t>(message_.data().size());
    grpc::ByteBuffer bytes = ToBytes(message_);
    message_.Clear();
    return bytes;
  }
  bool AtEnd() const override { return at_end_; }

 private:
  const ServiceContext& context_;
  const std::string job_, id_;
  p2::v1::GetArtifactResponse message_;  // The next one.
  int64_t offset_ = 0;
  bool at_end_ = false;
};

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

PushStreams::Opened ArtifactService::Open(const std::string& name) const {
  P2_ASSIGN_OR_RETURN(const auto ids, ParseChildName(kArtifacts, name));
  const auto& [job, id] = ids;
  P2_RETURN_IF_ERROR(context_.FindJob(ResourceName(kJobs, job)).status());
  P2_ASSIGN_OR_RETURN(const std::vector<scheduler::ArtifactRecord> artifacts, context_.store.ListArtifacts(job));
  const auto found =
      std::find_if(artifacts.begin(), artifacts.end(), [&](const auto& artifact) { return artifact.id == id; });
  if (found == artifacts.end()) {
    return ResourceNotFoundError("Artifact", name, absl::StrCat("`p2ctl artifact list ", job, "` shows them"));
  }
  return std::make_unique<ArtifactSource>(context_, *found);
}

grpc::ServerUnaryReactor* ArtifactService::ListArtifacts(grpc::CallbackServerContext* call,
                                                         const p2::v1::ListArtifactsRequest* request,
                                                         p2::v1::ListArtifactsResponse* response) {
  return Reply(call, response, List(*request));
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ArtifactService::GetArtifact(grpc::CallbackServerContext*,
                                                                         const grpc::ByteBuffer* request) {
  return context_.readers.Start<p2::v1::GetArtifactRequest>(
      *request, [this](const auto& parsed, auto) { return Open(parsed.name()); });
}

}  // namespace p2::rpc
