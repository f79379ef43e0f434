#include "server/rpc/job_service.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/rpc/labels.h"
#include "common/spec/validate.h"
#include "common/status_macros.h"
#include "server/rpc/convert.h"
#include "server/rpc/job_admission.h"
#include "server/rpc/message_bytes.h"
#include "server/rpc/page_token.h"
#include "server/rpc/unary_call.h"
#include "server/rpc/validation.h"

namespace p2::rpc {

using coordinator::Coordinator;

absl::StatusOr<SourceJob> JobService::FindSource(absl::string_view name) const {
  P2_ASSIGN_OR_RETURN(const scheduler::JobPtr job, context_.FindJobByPrefix(name));
  P2_ASSIGN_OR_RETURN(p2::v1::Job view, context_.views.View(*job));
  SourceJob source{
      job->id, std::move(*view.mutable_spec()), {}, scheduler::IsTerminal(job->state), !job->details->task.empty()};
  P2_ASSIGN_OR_RETURN(source.checkpoints, context_.coordinator.Checkpoints(job->id));
  return source;
}

absl::StatusOr<Admission> JobService::AdmitRequest(const p2::v1::CreateJobRequest& request) const {
  return Admit(
      request, *context_.coordinator.Datasets(), *context_.coordinator.Workers(),
      [this](absl::string_view name) { return FindSource(name); }, specs_);
}

grpc::ServerUnaryReactor* JobService::CreateJob(grpc::CallbackServerContext* call, const grpc::ByteBuffer* bytes,
                                                grpc::ByteBuffer* response) {
  absl::StatusOr<p2::v1::CreateJobRequest> request = FromBytes<p2::v1::CreateJobRequest>(*bytes);
  if (!request.ok()) return Reply<grpc::ByteBuffer>(call, response, request.status());
  if (!request->validate_only()) {
    if (absl::Status status = context_.submits.Take(Actor(*call, request->owner()), 1); !status.ok())
      return Reply<grpc::ByteBuffer>(call, response, status);
  }
  absl::StatusOr<Admission> admission = AdmitRequest(*request);
  if (!admission.ok()) return Reply<grpc::ByteBuffer>(call, response, admission.status());
  if (request->validate_only()) {
    const absl::StatusOr<p2::v1::CreateJobResponse> forecast = Forecast(*std::move(admission));
    return Reply<grpc::ByteBuffer>(
        call, response, forecast.ok() ? ToBytes(*forecast) : absl::StatusOr<grpc::ByteBuffer>(forecast.status()));
  }
  // Out of the request, so that its hash needs no copy without it.
  const std::string request_id = std::move(*request->mutable_request_id());
  request->clear_request_id();
  admission->command.info = MakeCommandInfo(*call, request_id, *request, request->owner());
  auto pending = UnaryCall<grpc::ByteBuffer>::Start(call, response, context_.times.timeout);
  context_.coordinator.Post(
      std::move(admission->command),
      [this, pending, answer = admission->answer.SerializeAsString()](absl::StatusOr<Coordinator::Answer> result) {
        pending->Finish(result.ok()
                            ? context_.views.Embed(answer, p2::v1::CreateJobResponse::kJobFieldNumber, {result->job})
                            : absl::StatusOr<grpc::ByteBuffer>(result.status()));
      });
  return pending->reactor();
}

grpc::ServerUnaryReactor* JobService::GetJob(grpc::CallbackServerContext* call, const p2::v1::GetJobRequest* request,
                                             p2::v1::Job* response) {
  const absl::StatusOr<scheduler::JobPtr> job = context_.FindJobByPrefix(request->name());
  return Reply<p2::v1::Job>(call, response,
                            job.ok() ? context_.views.View(**job) : absl::StatusOr<p2::v1::Job>(job.status()));
}

absl::StatusOr<p2::v1::ListJobsResponse> JobService::List(const p2::v1::ListJobsRequest& request) const {
  P2_ASSIGN_OR_RETURN(const int page_size, PageSize(request.page_size(), 50));
  P2_ASSIGN_OR_RETURN(const LabelSelector selector, LabelSelector::Parse(request.label_selector()));
  p2::v1::ListJobsRequest filter = request;
  filter.clear_page_size();
  filter.clear_page_token();
  const std::string list = absl::StrCat("jobs?", filter.SerializeAsString());
  P2_ASSIGN_OR_RETURN(int64_t before, DecodePageNumber(list, request.page_token(), INT64_MAX));
  const std::set<int> states(request.states().begin(), request.states().end());
  const auto wanted = [&](const scheduler::JobRecord& job) {
    return (states.empty() || states.count(static_cast<int>(job.state)) > 0) &&
           (request.owner().empty() || job.details->owner == request.owner()) &&
           (request.project().empty() || job.details->project == request.project()) &&
           (request.queue().empty() || ResourceName(kQueues, job.details->queue) == request.queue()) &&
           selector.Matches(job.details->labels);
  };

  // Live jobs are listed before the store is read: one that ends meanwhile is in both, and shown once.
  std::vector<scheduler::JobPtr> live = context_.coordinator.LiveJobs();
  std::sort(live.begin(), live.end(), [](const auto& a, const auto& b) { return a->create_order > b->create_order; });
  auto next_live = std::find_if(live.begin(), live.end(), [&](const auto& job) { return job->create_order < before; });
  std::vector<scheduler::JobPtr> finished;
  auto next_finished = finished.begin();
  bool more_finished = true;
  p2::v1::ListJobsResponse response;
  size_t bytes = 0;
  while (true) {
    if (next_finished == finished.end() && more_finished) {
      P2_ASSIGN_OR_RETURN(finished, context_.store.ListFinishedJobs(before, kMaxPageSize));
      next_finished = finished.begin();
      more_finished = !finished.empty();
    }
    const bool has_live = next_live != live.end();
    const bool has_finished = next_finished != finished.end();
    if (!has_live && !has_finished) return response;
    const bool take_live = has_live && (!has_finished || (*next_live)->create_order >= (*next_finished)->create_order);
    const scheduler::JobPtr job = take_live ? *next_live++ : *next_finished++;
    const bool repeated = job->create_order >= before;
    if (repeated || !wanted(*job)) {
      before = std::min(before, job->create_order);
      continue;
    }
    if (response.jobs_size() == page_size || bytes >= kMaxPageBytes) {
      response.set_next_page_token(EncodePageToken(list, absl::StrCat(before)));
      return response;
    }
    before = job->create_order;
    P2_ASSIGN_OR_RETURN(*response.add_jobs(), context_.views.View(*job));
    bytes += response.jobs(response.jobs_size() - 1).ByteSizeLong();
  }
}

grpc::ServerUnaryReactor* JobService::ListJobs(grpc::CallbackServerContext* call,
                                               const p2::v1::ListJobsRequest* request,
                                               p2::v1::ListJobsResponse* response) {
  return Reply(call, response, List(*request));
}

template <typename Command, typename Request>
grpc::ServerUnaryReactor* JobService::Run(grpc::CallbackServerContext* call, const Request& request,
                                          const std::string& reason, Command command, p2::v1::Job* response) {
  const absl::StatusOr<std::string> id = ParseResourceName(kJobs, request.name());
  if (!id.ok())
    return Reply<p2::v1::Job>(call, response, BadRequestError({{"name", std::string(id.status().message())}}));
  if (absl::Status status = ValidateCommand(request.request_id(), reason); !status.ok()) {
    return Reply<p2::v1::Job>(call, response, status);
  }
  command.info = MakeCommandInfo(*call, request.request_id(), request);
  command.job = *id;
  if constexpr (requires { command.reason; }) command.reason = reason;
  auto pending = UnaryCall<p2::v1::Job>::Start(call, response, context_.times.timeout);
  context_.coordinator.Post(std::move(command), [this, pending](absl::StatusOr<Coordinator::Answer> result) {
    pending->Finish(result.ok() ? context_.views.View(*result->job) : absl::StatusOr<p2::v1::Job>(result.status()));
  });
  return pending->reactor();
}

grpc::ServerUnaryReactor* JobService::StopJob(grpc::CallbackServerContext* call, const p2::v1::StopJobRequest* request,
                                              p2::v1::Job* response) {
  return Run(call, *request, request->reason(), scheduler::StopJob(), response);
}

grpc::ServerUnaryReactor* JobService::KillJob(grpc::CallbackServerContext* call, const p2::v1::KillJobRequest* request,
                                              p2::v1::Job* response) {
  return Run(call, *request, request->reason(), scheduler::KillJob(), response);
}

grpc::ServerUnaryReactor* JobService::PauseJob(grpc::CallbackServerContext* call,
                                               const p2::v1::PauseJobRequest* request, p2::v1::Job* response) {
  return Run(call, *request, request->reason(), scheduler::PauseJob(), response);
}

grpc::ServerUnaryReactor* JobService::ResumeJob(grpc::CallbackServerContext* call,
                                                const p2::v1::ResumeJobRequest* request, p2::v1::Job* response) {
  absl::StatusOr<scheduler::ResumeJob> command = ToResume(*request);
  if (!command.ok()) return Reply<p2::v1::Job>(call, response, command.status());
  return Run(call, *request, "", *std::move(command), response);
}

grpc::ServerUnaryReactor* JobService::DeleteJob(grpc::CallbackServerContext* call,
                                                const p2::v1::DeleteJobRequest* request,
                                                p2::v1::DeleteJobResponse* response) {
  const absl::StatusOr<std::string> id = ParseResourceName(kJobs, request->name());
  absl::Status status = id.ok() ? ValidateCommand(request->request_id(), "")
                                : BadRequestError({{"name", std::string(id.status().message())}});
  if (!status.ok()) return Reply<p2::v1::DeleteJobResponse>(call, response, status);
  auto pending = UnaryCall<p2::v1::DeleteJobResponse>::Start(call, response, context_.times.timeout);
  context_.coordinator.Post(
      scheduler::DeleteJob{.info = MakeCommandInfo(*call, request->request_id(), *request), .job = *id},
      [pending](absl::StatusOr<Coordinator::Answer> result) {
        pending->Finish(result.ok() ? absl::StatusOr<p2::v1::DeleteJobResponse>(p2::v1::DeleteJobResponse())
                                    : absl::StatusOr<p2::v1::DeleteJobResponse>(result.status()));
      });
  return pending->reactor();
}

absl::StatusOr<scheduler::ResumeJob> JobService::ToResume(const p2::v1::ResumeJobRequest& request) const {
  scheduler::ResumeJob command;
  std::vector<FieldViolation> violations;
  if (request.has_priority()) {
    CheckPriority(request.priority(), violations);
    command.priority = request.priority();
  }
  if (request.has_devices()) {
    P2_ASSIGN_OR_RETURN(const scheduler::JobPtr job, context_.FindJob(request.name()));
    P2_ASSIGN_OR_RETURN(p2::v1::Job view, context_.views.View(*job));
    p2::v1::ResourceSpec& resources = *view.mutable_spec()->mutable_resources();
    resources.set_devices(request.devices());
    resources.set_min_devices(request.min_devices());
    for (const spec::FieldViolation& violation : spec::ValidateSpec(view.spec(), /*require_dataset=*/false))
      violations.emplace_back(violation.field, violation.description);
    command.devices = request.devices();
    command.devices_min = request.min_devices();
  } else if (request.has_min_devices()) {
    violations.emplace_back("min_devices", "is set without devices; give both");
  }
  P2_RETURN_IF_ERROR(BadRequestError(violations));
  return command;
}

grpc::ServerUnaryReactor* JobService::UpdateJob(grpc::CallbackServerContext* call,
                                                const p2::v1::UpdateJobRequest* request, p2::v1::Job* response) {
  std::vector<FieldViolation> violations;
  CheckLabels({request->set_labels().begin(), request->set_labels().end()}, violations);
  CheckText("note", request->note(), violations);
  if (request->has_priority()) CheckPriority(request->priority(), violations);
  if (absl::Status status = BadRequestError(violations); !status.ok())
    return Reply<p2::v1::Job>(call, response, status);
  scheduler::UpdateJob command;
  if (request->has_priority()) command.priority = request->priority();
  command.set_labels = {request->set_labels().begin(), request->set_labels().end()};
  command.erase_labels = {request->erase_labels().begin(), request->erase_labels().end()};
  if (request->has_note()) command.note = request->note();
  return Run(call, *request, "", std::move(command), response);
}

}  // namespace p2::rpc
