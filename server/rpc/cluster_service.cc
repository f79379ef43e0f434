#include "server/rpc/cluster_service.h"

#include <algorithm>
#include <map>
#include <type_traits>
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

namespace p2::rpc {
namespace {

// (worker, slot) -> job.
using Holders = std::map<std::pair<std::string, std::string>, std::string>;

Holders HoldersOf(const std::vector<scheduler::JobPtr>& jobs) {
  Holders holders;
  for (const scheduler::JobPtr& job : jobs) {
    const scheduler::Attempt* attempt = job->live_attempt();
    if (attempt == nullptr) continue;
    for (const scheduler::RankPlacement& rank : attempt->ranks) {
      const bool ended = std::any_of(attempt->members.begin(), attempt->members.end(), [&](const auto& member) {
        return member.worker == rank.worker && member.state == scheduler::MemberState::kEnded;
      });
      if (!ended) holders[{rank.worker, rank.slot}] = job->id;
    }
  }
  return holders;
}

p2::v1::Worker ViewOf(const scheduler::WorkerRecord& worker, const Holders& holders) {
  p2::v1::Worker message = ToProto(worker);
  for (p2::v1::Slot& slot : *message.mutable_slots()) {
    for (const scheduler::Orphan& orphan : worker.orphans) {
      const bool held =
          orphan.slots.empty() || std::find(orphan.slots.begin(), orphan.slots.end(), slot.id()) != orphan.slots.end();
      if (held) slot.set_job(ResourceName(kJobs, orphan.job));
    }
    const auto found = holders.find({worker.id, slot.id()});
    if (found != holders.end()) slot.set_job(ResourceName(kJobs, found->second));
  }
  return message;
}

}  // namespace

p2::v1::Worker ClusterService::View(const scheduler::WorkerRecord& worker) const {
  return ViewOf(worker, HoldersOf(context_.coordinator.LiveJobs()));
}

absl::StatusOr<p2::v1::ListWorkersResponse> ClusterService::List(const p2::v1::ListWorkersRequest& request) const {
  P2_ASSIGN_OR_RETURN(const int page_size, PageSize(request.page_size(), 100));
  P2_ASSIGN_OR_RETURN(const std::string after, DecodePageToken("workers", request.page_token()));
  const coordinator::WorkerList workers = context_.coordinator.Workers();
  const Holders holders = HoldersOf(context_.coordinator.LiveJobs());
  p2::v1::ListWorkersResponse response;
  std::string last;
  for (const scheduler::WorkerPtr& worker : *workers) {
    if (!after.empty() && worker->id <= after) continue;
    if (response.workers_size() == page_size) {
      response.set_next_page_token(EncodePageToken("workers", last));
      break;
    }
    *response.add_workers() = ViewOf(*worker, holders);
    last = worker->id;
  }
  return response;
}

absl::StatusOr<p2::v1::ListRootsResponse> ClusterService::Roots(const p2::v1::ListRootsRequest& request) const {
  P2_ASSIGN_OR_RETURN(const int page_size, PageSize(request.page_size(), 100));
  P2_ASSIGN_OR_RETURN(const std::string after, DecodePageToken("roots", request.page_token()));
  std::map<std::string, p2::v1::StorageRoot> roots;  // By name and ID.
  const coordinator::WorkerList workers = context_.coordinator.Workers();
  for (const scheduler::WorkerPtr& worker : *workers) {
    for (const scheduler::RootRecord& record : worker->roots) {
      p2::v1::StorageRoot& root = roots[record.name + "\n" + record.id];
      root.set_name(record.name);
      root.set_id(record.id);
      root.set_path(record.path);
      root.set_free_bytes(record.free_bytes);
      root.set_total_bytes(record.total_bytes);
      root.add_workers(ResourceName(kWorkers, worker->id));
    }
  }
  p2::v1::ListRootsResponse response;
  std::string last;
  for (auto& [key, root] : roots) {
    if (!after.empty() && key <= after) continue;
    if (response.roots_size() == page_size) {
      response.set_next_page_token(EncodePageToken("roots", last));
      break;
    }
    *response.add_roots() = std::move(root);
    last = key;
  }
  return response;
}

template <typename Command, typename Request>
grpc::ServerUnaryReactor* ClusterService::Run(grpc::CallbackServerContext* call, const Request& request,
                                              Command command, p2::v1::Worker* response) {
  const absl::StatusOr<std::string> id = ParseResourceName(kWorkers, request.name());
  std::string reason;
  if constexpr (!std::is_same_v<Command, scheduler::UncordonWorker>) reason = command.reason;
  const absl::Status status = id.ok() ? ValidateCommand(request.request_id(), reason)
                                      : BadRequestError({{"name", std::string(id.status().message())}});
  if (!status.ok()) return Reply<p2::v1::Worker>(call, response, status);
  command.info = MakeCommandInfo(*call, request.request_id(), request);
  command.worker = *id;
  auto pending = UnaryCall<p2::v1::Worker>::Start(call, response, context_.times.timeout);
  context_.coordinator.Post(std::move(command),
                            [this, pending](absl::StatusOr<coordinator::Coordinator::Answer> result) {
                              pending->Finish(result.ok() ? absl::StatusOr<p2::v1::Worker>(View(*result->worker))
                                                          : absl::StatusOr<p2::v1::Worker>(result.status()));
                            });
  return pending->reactor();
}

grpc::ServerUnaryReactor* ClusterService::GetServerInfo(grpc::CallbackServerContext* call,
                                                        const p2::v1::GetServerInfoRequest*,
                                                        p2::v1::ServerInfo* response) {
  p2::v1::ServerInfo info;
  info.set_version(P2_VERSION);
  info.set_protocol_version(coordinator::kProtocolVersion);
  *info.mutable_start_time() = ToTimestamp(start_time_);
  return Reply<p2::v1::ServerInfo>(call, response, std::move(info));
}

grpc::ServerUnaryReactor* ClusterService::ListWorkers(grpc::CallbackServerContext* call,
                                                      const p2::v1::ListWorkersRequest* request,
                                                      p2::v1::ListWorkersResponse* response) {
  return Reply(call, response, List(*request));
}

grpc::ServerUnaryReactor* ClusterService::ListRoots(grpc::CallbackServerContext* call,
                                                    const p2::v1::ListRootsRequest* request,
                                                    p2::v1::ListRootsResponse* response) {
  return Reply(call, response, Roots(*request));
}

grpc::ServerUnaryReactor* ClusterService::CordonWorker(grpc::CallbackServerContext* call,
                                                       const p2::v1::CordonWorkerRequest* request,
                                                       p2::v1::Worker* response) {
  return Run(call, *request, scheduler::CordonWorker{.reason = request->reason()}, response);
}

grpc::ServerUnaryReactor* ClusterService::UncordonWorker(grpc::CallbackServerContext* call,
                                                         const p2::v1::UncordonWorkerRequest* request,
                                                         p2::v1::Worker* response) {
  return Run(call, *request, scheduler::UncordonWorker{}, response);
}

grpc::ServerUnaryReactor* ClusterService::DrainWorker(grpc::CallbackServerContext* call,
                                                      const p2::v1::DrainWorkerRequest* request,
                                                      p2::v1::Worker* response) {
  scheduler::CordonWorker command{.reason = request->reason(), .drain = true};
  if (request->has_deadline()) {
    command.deadline = absl::Seconds(request->deadline().seconds()) + absl::Nanoseconds(request->deadline().nanos());
    if (command.deadline <= absl::ZeroDuration()) {
      return Reply<p2::v1::Worker>(
          call, response,
          BadRequestError({{"deadline", absl::StrCat("is ", absl::FormatDuration(command.deadline),
                                                     "; must be above 0: kill jobs with `p2ctl kill`")}}));
    }
  }
  return Run(call, *request, std::move(command), response);
}

}  // namespace p2::rpc
