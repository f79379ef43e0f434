#include "server/rpc/queue_service.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/rpc/labels.h"
#include "common/status_macros.h"
#include "server/rpc/convert.h"
#include "server/rpc/unary_call.h"
#include "server/rpc/validation.h"
#include "server/scheduler/explain.h"
#include "server/scheduler/queue_cursor.h"
#include "server/scheduler/shares.h"

namespace p2::rpc {
namespace {

using coordinator::Coordinator;
using scheduler::ClusterState;

constexpr int kMaxDescribed = 1000;
constexpr double kMaxWeight = 1e6;

// Of a queue that is there; null record: `default`.
p2::v1::Queue ToProto(const std::string& id, const scheduler::QueueRecord* record, const ClusterState& state) {
  p2::v1::Queue m;
  m.set_name(ResourceName(kQueues, id));
  if (record != nullptr) {
    m.mutable_node_selector()->insert(record->selector.begin(), record->selector.end());
    m.set_description(record->description);
    *m.mutable_create_time() = ToTimestamp(record->create_time);
  } else {
    m.set_description("all workers");
  }
  int devices = 0, free = 0;
  for (const auto& [class_id, slots] : state.slots().classes()) {
    if (!scheduler::Selects(state.SelectorOf(id), slots.traits.labels)) continue;
    devices += slots.total;
    free += slots.free;
  }
  m.set_devices(devices);
  m.set_free_devices(free);
  for (const scheduler::JobPtr& job : state.live_jobs().All()) {
    if (job->details->queue != id) continue;
    if (job->state == scheduler::JobState::kQueued) m.set_queued_jobs(m.queued_jobs() + 1);
    if (job->live_attempt() != nullptr) m.set_running_jobs(m.running_jobs() + 1);
  }
  return m;
}

absl::StatusOr<p2::v1::Queue> FindIn(const ClusterState& state, const std::string& id) {
  if (id == scheduler::kDefaultQueue) return ToProto(id, nullptr, state);
  const auto found = state.queues().find(id);
  if (found == state.queues().end())
    return ResourceNotFoundError("Queue", ResourceName(kQueues, id), "`p2ctl queue list` shows them");
  return ToProto(id, found->second.get(), state);
}

p2::v1::Quota ToProto(const std::string& account, const scheduler::QuotaRecord* record, const ClusterState& state) {
  p2::v1::Quota m;
  m.set_name(account);
  if (record != nullptr) {
    if (record->devices.has_value()) m.set_devices(*record->devices);
    m.set_borrow(record->borrow);
    if (record->queued_jobs.has_value()) m.set_queued_jobs(*record->queued_jobs);
  }
  m.set_devices_held(state.HeldBy(account));
  m.set_jobs_queued(state.QueuedBy(account));
  return m;
}

bool IsAccount(absl::string_view name) {
  return (absl::ConsumePrefix(&name, "users/") || absl::ConsumePrefix(&name, "projects/")) && !name.empty() &&
         name.size() <= 200 && !absl::StrContains(name, '/') && !absl::StrContains(name, ',');
}

absl::Status CheckQueue(const p2::v1::Queue& queue, absl::string_view request_id) {
  std::vector<FieldViolation> violations;
  if (absl::Status name = ParseResourceName(kQueues, queue.name()).status(); !name.ok())
    violations.emplace_back("queue.name", std::string(name.message()));
  CheckLabels({queue.node_selector().begin(), queue.node_selector().end()}, violations);
  CheckText("queue.description", queue.description(), violations);
  CheckRequestId(request_id, violations);
  return BadRequestError(violations);
}

}  // namespace

absl::StatusOr<p2::v1::Queue> QueueService::Find(const std::string& name) const {
  const absl::StatusOr<std::string> id = ParseResourceName(kQueues, name);
  if (!id.ok()) return BadRequestError({{"name", std::string(id.status().message())}});
  absl::StatusOr<p2::v1::Queue> found;
  P2_RETURN_IF_ERROR(
      context_.coordinator.Inquire("", [&](const Coordinator::Inside& inside) { found = FindIn(inside.state, *id); }));
  return found;
}

absl::StatusOr<p2::v1::QueueDescription> QueueService::Describe(const std::string& name) const {
  p2::v1::QueueDescription description;
  P2_ASSIGN_OR_RETURN(*description.mutable_queue(), Find(name));
  P2_RETURN_IF_ERROR(context_.coordinator.Inquire("", [&](const Coordinator::Inside& inside) {
    const ClusterState& state = inside.state;
    int position = 0;
    for (const std::string& id : scheduler::QueueOrder(state, inside.now.mono, inside.options)) {
      ++position;
      const scheduler::JobPtr job = state.FindJob(id);
      if (ResourceName(kQueues, job->details->queue) != name || description.jobs_size() == kMaxDescribed) continue;
      p2::v1::QueueDescription::WaitingJob& m = *description.add_jobs();
      m.set_name(ResourceName(kJobs, id));
      m.set_position(position);
      m.set_priority(job->priority);
      m.set_owner(job->details->owner);
      m.set_project(job->details->project);
      m.set_devices(job->needs->least_devices());
      m.set_reason(static_cast<p2::v1::StatusReason>(job->reason));
      *m.mutable_create_time() = ToTimestamp(job->create_time);
      const auto reservation = state.reservations().find(id);
      if (reservation == state.reservations().end()) continue;
      m.set_reserved(true);
      if (reservation->second.start_mono != absl::InfiniteFuture()) {
        *m.mutable_predicted_start() =
            ToTimestamp(inside.now.wall + (reservation->second.start_mono - inside.now.mono));
      }
    }
    std::set<std::string> shares;
    for (const scheduler::JobPtr& job : state.live_jobs().All()) {
      shares.insert(scheduler::ProjectShare(job->details->project));
      shares.insert(scheduler::OwnerShare(job->details->project, job->details->owner));
    }
    for (const std::string& id : shares)
      *description.add_shares() = rpc::ToProto(scheduler::NumbersOf(state, id, inside.now, inside.options));
  }));
  return description;
}

grpc::ServerUnaryReactor* QueueService::ListQueues(grpc::CallbackServerContext* call, const p2::v1::ListQueuesRequest*,
                                                   p2::v1::ListQueuesResponse* response) {
  p2::v1::ListQueuesResponse list;
  const absl::Status status = context_.coordinator.Inquire("", [&](const Coordinator::Inside& inside) {
    std::set<std::string> ids = {std::string(scheduler::kDefaultQueue)};
    for (const auto& [id, queue] : inside.state.queues()) ids.insert(id);
    for (const std::string& id : ids) *list.add_queues() = *FindIn(inside.state, id);
  });
  return Reply(call, response, status.ok() ? absl::StatusOr<p2::v1::ListQueuesResponse>(list) : status);
}

grpc::ServerUnaryReactor* QueueService::GetQueue(grpc::CallbackServerContext* call,
                                                 const p2::v1::GetQueueRequest* request, p2::v1::Queue* response) {
  return Reply(call, response, Find(request->name()));
}

grpc::ServerUnaryReactor* QueueService::Set(grpc::CallbackServerContext* call, const p2::v1::Queue& queue,
                                            const std::string& request_id, const google::protobuf::Message& request,
                                            bool create, p2::v1::Queue* response) {
  if (absl::Status status = CheckQueue(queue, request_id); !status.ok())
    return Reply<p2::v1::Queue>(call, response, status);
  scheduler::SetQueue command;
  command.info = MakeCommandInfo(*call, request_id, request);
  command.queue.id = *ParseResourceName(kQueues, queue.name());
  command.queue.selector = {queue.node_selector().begin(), queue.node_selector().end()};
  command.queue.description = queue.description();
  command.create = create;
  const absl::Status status = context_.coordinator.Execute(std::move(command)).status();
  return Reply(call, response, status.ok() ? Find(queue.name()) : absl::StatusOr<p2::v1::Queue>(status));
}

grpc::ServerUnaryReactor* QueueService::CreateQueue(grpc::CallbackServerContext* call,
                                                    const p2::v1::CreateQueueRequest* request,
                                                    p2::v1::Queue* response) {
  return Set(call, request->queue(), request->request_id(), *request, /*create=*/true, response);
}

grpc::ServerUnaryReactor* QueueService::UpdateQueue(grpc::CallbackServerContext* call,
                                                    const p2::v1::UpdateQueueRequest* request,
                                                    p2::v1::Queue* response) {
  return Set(call, request->queue(), request->request_id(), *request, /*create=*/false, response);
}

grpc::ServerUnaryReactor* QueueService::DeleteQueue(grpc::CallbackServerContext* call,
                                                    const p2::v1::DeleteQueueRequest* request,
                                                    p2::v1::DeleteQueueResponse* response) {
  using Response = p2::v1::DeleteQueueResponse;
  const absl::StatusOr<std::string> id = ParseResourceName(kQueues, request->name());
  absl::Status status = id.ok() ? ValidateCommand(request->request_id(), "")
                                : BadRequestError({{"name", std::string(id.status().message())}});
  if (status.ok()) {
    status = context_.coordinator
                 .Execute(scheduler::DeleteQueue{MakeCommandInfo(*call, request->request_id(), *request), *id})
                 .status();
  }
  return Reply(call, response, status.ok() ? absl::StatusOr<Response>(Response()) : status);
}

grpc::ServerUnaryReactor* QueueService::DescribeQueue(grpc::CallbackServerContext* call,
                                                      const p2::v1::DescribeQueueRequest* request,
                                                      p2::v1::QueueDescription* response) {
  return Reply(call, response, Describe(request->name()));
}

grpc::ServerUnaryReactor* QueueService::MoveJob(grpc::CallbackServerContext* call,
                                                const p2::v1::MoveJobRequest* request, p2::v1::Job* response) {
  using Where = p2::v1::MoveJobRequest;
  std::vector<FieldViolation> violations;
  const absl::StatusOr<std::string> id = ParseResourceName(kJobs, request->name());
  if (!id.ok()) violations.emplace_back("name", std::string(id.status().message()));
  if (!Where::Where_IsValid(request->where()) || request->where() == Where::WHERE_UNSPECIFIED)
    violations.emplace_back("where", "is missing: FIRST, LAST, BEFORE or AFTER");
  const bool beside = request->where() == Where::BEFORE || request->where() == Where::AFTER;
  absl::StatusOr<std::string> other = std::string();
  if (beside) other = ParseResourceName(kJobs, request->other());
  if (!other.ok()) violations.emplace_back("other", std::string(other.status().message()));
  CheckRequestId(request->request_id(), violations);
  if (absl::Status status = BadRequestError(violations); !status.ok())
    return Reply<p2::v1::Job>(call, response, status);
  const auto result = context_.coordinator.Execute(
      scheduler::MoveJob{MakeCommandInfo(*call, request->request_id(), *request), *id,
                         static_cast<scheduler::MoveJob::Where>(request->where() - 1), *other});
  return Reply(call, response,
               result.ok() ? context_.views.View(*result->job) : absl::StatusOr<p2::v1::Job>(result.status()));
}

grpc::ServerUnaryReactor* QueueService::ListQuotas(grpc::CallbackServerContext* call, const p2::v1::ListQuotasRequest*,
                                                   p2::v1::ListQuotasResponse* response) {
  p2::v1::ListQuotasResponse list;
  const absl::Status status = context_.coordinator.Inquire("", [&](const Coordinator::Inside& inside) {
    const ClusterState& state = inside.state;
    std::map<std::string, const scheduler::QuotaRecord*> accounts;
    for (const scheduler::JobPtr& job : state.live_jobs().All()) {
      accounts[absl::StrCat("projects/", job->details->project)] = nullptr;
      if (!job->details->owner.empty()) accounts[absl::StrCat("users/", job->details->owner)] = nullptr;
    }
    for (const auto& [id, quota] : state.quotas()) accounts[id] = &quota;
    for (const auto& [id, quota] : accounts) *list.add_quotas() = ToProto(id, quota, state);
  });
  return Reply(call, response, status.ok() ? absl::StatusOr<p2::v1::ListQuotasResponse>(list) : status);
}

grpc::ServerUnaryReactor* QueueService::SetQuota(grpc::CallbackServerContext* call,
                                                 const p2::v1::SetQuotaRequest* request, p2::v1::Quota* response) {
  const p2::v1::Quota& quota = request->quota();
  std::vector<FieldViolation> violations;
  if (!IsAccount(quota.name())) {
    violations.emplace_back("quota.name",
                            absl::StrCat("is \"", quota.name(), "\"; must be users/{owner} or projects/{project}"));
  }
  if (quota.devices() < 0) violations.emplace_back("quota.devices", absl::StrCat("is ", quota.devices()));
  if (quota.queued_jobs() < 0) violations.emplace_back("quota.queued_jobs", absl::StrCat("is ", quota.queued_jobs()));
  if (quota.borrow() < -1)
    violations.emplace_back("quota.borrow", absl::StrCat("is ", quota.borrow(), "; must be -1 (any number) or more"));
  CheckRequestId(request->request_id(), violations);
  if (absl::Status status = BadRequestError(violations); !status.ok())
    return Reply<p2::v1::Quota>(call, response, status);
  scheduler::SetQuota command;
  command.info = MakeCommandInfo(*call, request->request_id(), *request);
  command.quota.id = quota.name();
  if (quota.has_devices()) command.quota.devices = quota.devices();
  command.quota.borrow = quota.borrow();
  if (quota.has_queued_jobs()) command.quota.queued_jobs = quota.queued_jobs();
  absl::Status status = context_.coordinator.Execute(std::move(command)).status();
  p2::v1::Quota answer;
  if (status.ok()) {
    status = context_.coordinator.Inquire("", [&](const Coordinator::Inside& inside) {
      const auto found = inside.state.quotas().find(quota.name());
      answer = ToProto(quota.name(), found == inside.state.quotas().end() ? nullptr : &found->second, inside.state);
    });
  }
  return Reply(call, response, status.ok() ? absl::StatusOr<p2::v1::Quota>(answer) : status);
}

grpc::ServerUnaryReactor* QueueService::SetWeight(grpc::CallbackServerContext* call,
                                                  const p2::v1::SetWeightRequest* request,
                                                  p2::v1::FairShare* response) {
  std::vector<FieldViolation> violations;
  const std::vector<std::string> parts = absl::StrSplit(request->id(), '/');
  if (parts.empty() || parts.size() > 2 || !IsResourceId(parts[0]) || (parts.size() == 2 && parts[1].empty())) {
    violations.emplace_back("id", absl::StrCat("is \"", request->id(), "\"; must be PROJECT or PROJECT/OWNER"));
  }
  if (!(request->weight() > 0 && request->weight() <= kMaxWeight)) {
    violations.emplace_back("weight",
                            absl::StrCat("is ", request->weight(), "; must be above 0 and at most ", kMaxWeight));
  }
  CheckRequestId(request->request_id(), violations);
  if (absl::Status status = BadRequestError(violations); !status.ok())
    return Reply<p2::v1::FairShare>(call, response, status);
  absl::Status status = context_.coordinator
                            .Execute(scheduler::SetWeight{MakeCommandInfo(*call, request->request_id(), *request),
                                                          request->id(), request->weight()})
                            .status();
  p2::v1::FairShare answer;
  if (status.ok()) {
    status = context_.coordinator.Inquire("", [&](const Coordinator::Inside& inside) {
      answer = rpc::ToProto(scheduler::NumbersOf(inside.state, request->id(), inside.now, inside.options));
    });
  }
  return Reply(call, response, status.ok() ? absl::StatusOr<p2::v1::FairShare>(answer) : status);
}

}  // namespace p2::rpc
