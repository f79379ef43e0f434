#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "p2/v1/job_service.grpc.pb.h"
#include "server/rpc/job_admission.h"
#include "server/rpc/resolved_specs.h"
#include "server/rpc/service_context.h"
#include "server/rpc/shared_messages.h"
#include "server/rpc/task_admission.h"

namespace p2::rpc {

// No method holds a thread while the coordinator works, or a watch waits. Those that are called most take and give
// bytes.
using JobServiceBase =
    p2::v1::JobService::WithRawCallbackMethod_CreateJob<p2::v1::JobService::WithCallbackMethod_GetJob<
        p2::v1::JobService::WithCallbackMethod_ListJobs<p2::v1::JobService::WithCallbackMethod_StopJob<
            p2::v1::JobService::WithCallbackMethod_KillJob<p2::v1::JobService::WithCallbackMethod_DeleteJob<
                p2::v1::JobService::WithCallbackMethod_PauseJob<p2::v1::JobService::WithCallbackMethod_ResumeJob<
                    p2::v1::JobService::WithRawCallbackMethod_BatchCreateJobs<
                        p2::v1::JobService::WithCallbackMethod_ControlJobs<
                            p2::v1::JobService::WithCallbackMethod_UpdateJob<
                                p2::v1::JobService::WithCallbackMethod_ExplainJob<
                                    p2::v1::JobService::WithRawCallbackMethod_WatchJobs<
                                        p2::v1::JobService::Service>>>>>>>>>>>>>;

// Thread-safe.
class JobService final : public JobServiceBase {
 public:
  explicit JobService(ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* CreateJob(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                      grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* call, const p2::v1::GetJobRequest* request,
                                   p2::v1::Job* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* call, const p2::v1::ListJobsRequest* request,
                                     p2::v1::ListJobsResponse* response) override;
  grpc::ServerUnaryReactor* StopJob(grpc::CallbackServerContext* call, const p2::v1::StopJobRequest* request,
                                    p2::v1::Job* response) override;
  grpc::ServerUnaryReactor* KillJob(grpc::CallbackServerContext* call, const p2::v1::KillJobRequest* request,
                                    p2::v1::Job* response) override;
  grpc::ServerUnaryReactor* DeleteJob(grpc::CallbackServerContext* call, const p2::v1::DeleteJobRequest* request,
                                      p2::v1::DeleteJobResponse* response) override;
  grpc::ServerUnaryReactor* PauseJob(grpc::CallbackServerContext* call, const p2::v1::PauseJobRequest* request,
                                     p2::v1::Job* response) override;
  grpc::ServerUnaryReactor* ResumeJob(grpc::CallbackServerContext* call, const p2::v1::ResumeJobRequest* request,
                                      p2::v1::Job* response) override;
  grpc::ServerUnaryReactor* BatchCreateJobs(grpc::CallbackServerContext* call, const grpc::ByteBuffer* request,
                                            grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* ControlJobs(grpc::CallbackServerContext* call, const p2::v1::ControlJobsRequest* request,
                                        p2::v1::ControlJobsResponse* response) override;
  grpc::ServerUnaryReactor* UpdateJob(grpc::CallbackServerContext* call, const p2::v1::UpdateJobRequest* request,
                                      p2::v1::Job* response) override;
  grpc::ServerUnaryReactor* ExplainJob(grpc::CallbackServerContext* call, const p2::v1::ExplainJobRequest* request,
                                       p2::v1::JobExplanation* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* WatchJobs(grpc::CallbackServerContext* call,
                                                        const grpc::ByteBuffer* request) override;

 private:
  absl::StatusOr<SourceJob> FindSource(absl::string_view name) const;
  absl::StatusOr<Admission> AdmitRequest(const p2::v1::CreateJobRequest& request) const;
  absl::StatusOr<p2::v1::CreateJobResponse> Forecast(Admission admission) const;
  absl::StatusOr<scheduler::ResumeJob> ToResume(const p2::v1::ResumeJobRequest& request) const;
  // The jobs that a request with a selector means, as they are now.
  absl::StatusOr<std::vector<std::string>> Select(const p2::v1::ControlJobsRequest& request) const;
  absl::StatusOr<p2::v1::JobExplanation> Explain(const p2::v1::ExplainJobRequest& request) const;
  absl::StatusOr<p2::v1::ListJobsResponse> List(const p2::v1::ListJobsRequest& request) const;
  PushStreams::Opened Watch(const p2::v1::WatchJobsRequest& request, PushStreams::Wake wake) const;
  // A command on one job whose answer is that job; `command` with all but its job and info.
  template <typename Command, typename Request>
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext* call, const Request& request, const std::string& reason,
                                Command command, p2::v1::Job* response);

  ServiceContext& context_;
  mutable ResolvedSpecs specs_;
  mutable SharedMessages watch_messages_;
};

}  // namespace p2::rpc
