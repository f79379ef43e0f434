// JobService: several jobs in one write, and why a job is where it is.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/rpc/labels.h"
#include "common/status_macros.h"
#include "server/rpc/convert.h"
#include "server/rpc/job_service.h"
#include "server/rpc/message_bytes.h"
#include "server/rpc/unary_call.h"
#include "server/rpc/validation.h"
#include "server/scheduler/explain.h"

namespace p2::rpc {
namespace {

using coordinator::Coordinator;
using p2::v1::ControlJobsRequest;

constexpr int kMaxBatch = 1000;
constexpr int kMaxControlled = 10'000;

p2::v1::JobExplanation ToProto(const scheduler::Explanation& record) {
  p2::v1::JobExplanation m;
  m.set_state(static_cast<p2::v1::Job::State>(record.state));
  m.set_reason(static_cast<p2::v1::StatusReason>(record.reason));
  m.set_message(record.message);
  m.set_position(record.position);
  m.set_waiting(record.waiting);
  m.set_devices_exist(record.devices_exist);
  m.set_devices_free(record.devices_free);
  for (const scheduler::Blocker& blocker : record.blockers) {
    m.add_blockers()->set_resource(blocker.resource);
    m.mutable_blockers()->rbegin()->set_why(blocker.why);
  }
  m.set_unblock(record.unblock);
  if (record.earliest.has_value()) m.set_earliest_seconds(absl::ToDoubleSeconds(*record.earliest));
  if (record.latest.has_value()) m.set_latest_seconds(absl::ToDoubleSeconds(*record.latest));
  for (const scheduler::ShareNumbers& share : record.shares) *m.add_shares() = rpc::ToProto(share);
  return m;
}

std::vector<std::string> FullNames(const std::vector<std::string>& ids) {
  std::vector<std::string> names;
  for (const std::string& id : ids) names.push_back(ResourceName(kJobs, id));
  return names;
}

}  // namespace

absl::StatusOr<p2::v1::CreateJobResponse> JobService::Forecast(Admission admission) const {
  *admission.answer.mutable_job() = UnnamedJob(admission);
  // The copy is taken on the loop thread, the rest is done here.
  std::unique_ptr<scheduler::ClusterState> state;
  scheduler::Moment now;
  scheduler::StepOptions options;
  P2_RETURN_IF_ERROR(
      context_.coordinator.Inquire(admission.command.needs.source.job, [&](const Coordinator::Inside& inside) {
        state = std::make_unique<scheduler::ClusterState>(inside.state);
        now = inside.now;
        options = inside.options;
      }));
  admission.command.id = absl::StrCat(admission.command.id, "-forecast");  // No drawn ID ends so.
  P2_ASSIGN_OR_RETURN(const scheduler::Forecasted forecast,
                      scheduler::ForecastNewJob(std::move(*state), admission.command, now, options));
  p2::v1::JobExplanation& m = *admission.answer.mutable_forecast();
  m = ToProto(forecast.explanation);
  for (const scheduler::RankPlacement& rank : forecast.placement) {
    p2::v1::RankPlacement& placed = *m.add_placement();
    placed.set_rank(rank.rank);
    placed.set_worker(ResourceName(kWorkers, rank.worker));
    placed.set_slot(rank.slot);
  }
  return std::move(admission.answer);
}

grpc::ServerUnaryReactor* JobService::BatchCreateJobs(grpc::CallbackServerContext* call, const grpc::ByteBuffer* bytes,
                                                      grpc::ByteBuffer* response) {
  using Response = grpc::ByteBuffer;
  const absl::StatusOr<p2::v1::BatchCreateJobsRequest> request = FromBytes<p2::v1::BatchCreateJobsRequest>(*bytes);
  if (!request.ok()) return Reply<Response>(call, response, request.status());
  if (request->requests_size() < 1 || request->requests_size() > kMaxBatch) {
    return Reply<Response>(call, response,
                           BadRequestError({{"requests", absl::StrCat("has ", request->requests_size(),
                                                                      " entries; must be 1 to ", kMaxBatch)}}));
  }
  if (absl::Status status = ValidateCommand(request->request_id(), ""); !status.ok())
    return Reply<Response>(call, response, status);
  std::map<std::string, int> jobs_of;
  for (const p2::v1::CreateJobRequest& one : request->requests()) ++jobs_of[Actor(*call, one.owner())];
  for (const auto& [user, jobs] : jobs_of) {
    if (absl::Status status = context_.submits.Take(user, jobs); !status.ok())
      return Reply<Response>(call, response, status);
  }
  scheduler::CreateJobs command;
  for (const p2::v1::CreateJobRequest& one : request->requests()) {
    absl::StatusOr<Admission> admission = AdmitRequest(one);
    if (!admission.ok()) {
      return Reply<Response>(call, response,
                             WithPrefix(absl::StrCat("requests[", command.jobs.size(), "]: "), admission.status()));
    }
    admission->command.info.actor = Actor(*call, one.owner());
    command.jobs.push_back(std::move(admission->command));
  }
  command.info = MakeCommandInfo(*call, request->request_id(), *request);
  auto pending = UnaryCall<Response>::Start(call, response, context_.times.timeout);
  context_.coordinator.Post(std::move(command), [this, pending](absl::StatusOr<Coordinator::Answer> result) {
    pending->Finish(result.ok()
                        ? context_.views.Embed("", p2::v1::BatchCreateJobsResponse::kJobsFieldNumber, result->jobs)
                        : absl::StatusOr<Response>(result.status()));
  });
  return pending->reactor();
}

absl::StatusOr<std::vector<std::string>> JobService::Select(const ControlJobsRequest& request) const {
  P2_ASSIGN_OR_RETURN(const LabelSelector selector, LabelSelector::Parse(request.label_selector()));
  const std::set<int> states(request.states().begin(), request.states().end());
  const auto wanted = [&](const scheduler::JobRecord& job) {
    return (states.empty() || states.count(static_cast<int>(job.state)) > 0) &&
           (request.owner().empty() || job.details->owner == request.owner()) && selector.Matches(job.details->labels);
  };
  std::vector<std::string> ids;
  if (request.verb() != ControlJobsRequest::DELETE) {
    for (const scheduler::JobPtr& job : context_.coordinator.LiveJobs()) {
      if (wanted(*job)) ids.push_back(job->id);
    }
    std::sort(ids.begin(), ids.end());
    return ids;
  }
  for (int64_t before = INT64_MAX; ids.size() < kMaxControlled;) {
    P2_ASSIGN_OR_RETURN(const std::vector<scheduler::JobPtr> ended,
                        context_.store.ListFinishedJobs(before, kMaxPageSize));
    if (ended.empty()) break;
    for (const scheduler::JobPtr& job : ended) {
      if (wanted(*job) && ids.size() < kMaxControlled) ids.push_back(job->id);
    }
    before = ended.back()->create_order;
  }
  return ids;
}

grpc::ServerUnaryReactor* JobService::ControlJobs(grpc::CallbackServerContext* call, const ControlJobsRequest* request,
                                                  p2::v1::ControlJobsResponse* response) {
  using Response = p2::v1::ControlJobsResponse;
  std::vector<FieldViolation> violations;
  const bool selects = !request->label_selector().empty() || !request->owner().empty() || request->states_size() > 0;
  if (!ControlJobsRequest::Verb_IsValid(request->verb()) || request->verb() == ControlJobsRequest::VERB_UNSPECIFIED)
    violations.emplace_back("verb", "is missing: STOP, KILL, PAUSE, RESUME or DELETE");
  if (selects == (request->names_size() > 0)) {
    violations.emplace_back("names", selects ? "stand beside a selector; give one of them"
                                             : "are missing: name the jobs, or select them by label, owner or state");
  }
  if (request->names_size() > kMaxControlled)
    violations.emplace_back("names", absl::StrCat("has ", request->names_size(), " entries; at most ", kMaxControlled));
  scheduler::ControlJobs command;
  for (const std::string& name : request->names()) {
    const absl::StatusOr<std::string> id = ParseResourceName(kJobs, name);
    if (id.ok()) {
      command.jobs.push_back(*id);
    } else {
      violations.emplace_back("names", std::string(id.status().message()));
    }
  }
  CheckRequestId(request->request_id(), violations);
  CheckText("reason", request->reason(), violations);
  if (absl::Status status = BadRequestError(violations); !status.ok()) return Reply<Response>(call, response, status);
  if (selects) {
    absl::StatusOr<std::vector<std::string>> chosen = Select(*request);
    if (!chosen.ok()) return Reply<Response>(call, response, chosen.status());
    command.jobs = *std::move(chosen);
  }
  const auto answer = [](const std::vector<std::string>& names) {
    Response m;
    for (const std::string& name : names) m.add_names(name);
    return m;
  };
  for (const std::string& id : request->validate_only() ? command.jobs : std::vector<std::string>()) {
    if (absl::Status status = context_.coordinator.GetJob(id).status(); !status.ok())
      return Reply<Response>(call, response, status);
  }
  if (request->validate_only()) return Reply<Response>(call, response, answer(FullNames(command.jobs)));
  command.verb = static_cast<scheduler::ControlJobs::Verb>(request->verb() - 1);
  command.skip = selects;
  command.reason = request->reason();
  command.info = MakeCommandInfo(*call, request->request_id(), *request);
  auto pending = UnaryCall<Response>::Start(call, response, context_.times.timeout);
  context_.coordinator.Post(std::move(command), [pending, answer](absl::StatusOr<Coordinator::Answer> result) {
    pending->Finish(result.ok() ? absl::StatusOr<Response>(answer(result->names))
                                : absl::StatusOr<Response>(result.status()));
  });
  return pending->reactor();
}

absl::StatusOr<p2::v1::JobExplanation> JobService::Explain(const p2::v1::ExplainJobRequest& request) const {
  P2_ASSIGN_OR_RETURN(const scheduler::JobPtr job, context_.FindJobByPrefix(request.name()));
  absl::StatusOr<scheduler::Explanation> explanation;
  P2_RETURN_IF_ERROR(context_.coordinator.Inquire(job->id, [&](const Coordinator::Inside& inside) {
    explanation = scheduler::Explain(inside.state, job->id, inside.now, inside.options);
  }));
  P2_RETURN_IF_ERROR(explanation.status());
  p2::v1::JobExplanation m = ToProto(*explanation);
  m.set_name(ResourceName(kJobs, job->id));
  return m;
}

grpc::ServerUnaryReactor* JobService::ExplainJob(grpc::CallbackServerContext* call,
                                                 const p2::v1::ExplainJobRequest* request,
                                                 p2::v1::JobExplanation* response) {
  return Reply(call, response, Explain(*request));
}

}  // namespace p2::rpc
