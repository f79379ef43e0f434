#include "server/rpc/service_context.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "server/rpc/validation.h"

namespace p2::rpc {
namespace {

constexpr char kListHint[] = "`p2ctl list` shows them";
constexpr int kMaxCandidates = 5;

bool IsIdPrefix(absl::string_view text) {
  return !text.empty() && text.size() <= 63 && absl::ascii_islower(text[0]) &&
         std::all_of(text.begin(), text.end(),
                     [](char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c) || c == '-'; });
}

}  // namespace

absl::StatusOr<scheduler::JobPtr> ServiceContext::FindJob(absl::string_view name) const {
  P2_ASSIGN_OR_RETURN(const std::string id, ParseResourceName(kJobs, name));
  absl::StatusOr<scheduler::JobPtr> job = coordinator.GetJob(id);
  if (absl::IsNotFound(job.status())) return ResourceNotFoundError("Job", id, kListHint);
  return job;
}

absl::StatusOr<scheduler::JobPtr> ServiceContext::FindJobByPrefix(absl::string_view name) const {
  absl::string_view prefix = name;
  if (!absl::ConsumePrefix(&prefix, "jobs/") || !IsIdPrefix(prefix)) return FindJob(name);
  if (absl::StatusOr<scheduler::JobPtr> exact = coordinator.GetJob(prefix); !absl::IsNotFound(exact.status()))
    return exact;
  std::set<std::string> ids;
  for (const scheduler::JobPtr& job : coordinator.LiveJobs()) {
    if (absl::StartsWith(job->id, prefix)) ids.insert(job->id);
  }
  P2_ASSIGN_OR_RETURN(const std::vector<std::string> finished, store.FindFinishedJobs(prefix, kMaxCandidates));
  ids.insert(finished.begin(), finished.end());
  if (ids.empty()) return ResourceNotFoundError("Job", prefix, kListHint);
  if (ids.size() == 1) return coordinator.GetJob(*ids.begin());
  const auto end = std::next(ids.begin(), std::min<int>(kMaxCandidates, static_cast<int>(ids.size())));
  return BadRequestError({{"name", absl::StrCat("\"", prefix, "\" is the beginning of several jobs (",
                                                absl::StrJoin(ids.begin(), end, ", "), "…): give more of the ID")}});
}

std::string Actor(const grpc::ServerContextBase& call, absl::string_view owner) {
  if (!owner.empty()) return absl::StrCat("user:", owner);
  const auto found = call.client_metadata().find("p2-user");
  if (found == call.client_metadata().end()) return "user:unknown";
  std::string user(found->second.data(), std::min<size_t>(found->second.size(), 64));
  std::replace_if(
      user.begin(), user.end(), [](char c) { return !absl::ascii_isgraph(c); }, '?');
  return absl::StrCat("user:", user);
}

scheduler::CommandInfo MakeCommandInfo(const grpc::ServerContextBase& call, absl::string_view request_id,
                                       const google::protobuf::Message& request, absl::string_view owner) {
  return {.actor = Actor(call, owner),
          .request_id = std::string(request_id),
          .payload_sha256 = request_id.empty() ? "" : PayloadSha256(request)};
}

}  // namespace p2::rpc
