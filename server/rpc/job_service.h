#pragma once

#include <set>
#include <string>

#include "p2/v1/job_service.grpc.pb.h"
#include "server/rpc/service_context.h"
#include "server/rpc/task_admission.h"

namespace p2::rpc {

// Unary methods answer by callback and hold no thread while the coordinator works; a watch holds one of gRPC's threads
// (their number is bounded by the server's ResourceQuota).
using JobServiceBase = p2::v1::JobService::WithCallbackMethod_CreateJob<
    p2::v1::JobService::WithCallbackMethod_GetJob<p2::v1::JobService::WithCallbackMethod_ListJobs<
        p2::v1::JobService::WithCallbackMethod_StopJob<p2::v1::JobService::WithCallbackMethod_KillJob<
            p2::v1::JobService::WithCallbackMethod_DeleteJob<p2::v1::JobService::WithCallbackMethod_PauseJob<
                p2::v1::JobService::WithCallbackMethod_ResumeJob<p2::v1::JobService::Service>>>>>>>>;

// Thread-safe.
class JobService final : public JobServiceBase {
 public:
  explicit JobService(ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* CreateJob(grpc::CallbackServerContext* call, const p2::v1::CreateJobRequest* request,
                                      p2::v1::CreateJobResponse* response) override;
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
  grpc::Status WatchJobs(grpc::ServerContext* call, const p2::v1::WatchJobsRequest* request,
                         grpc::ServerWriter<p2::v1::WatchJobsResponse>* writer) override;

 private:
  absl::StatusOr<SourceJob> FindSource(absl::string_view name) const;
  absl::StatusOr<p2::v1::ListJobsResponse> List(const p2::v1::ListJobsRequest& request) const;
  absl::Status Watch(const grpc::ServerContext& call, const p2::v1::WatchJobsRequest& request,
                     grpc::ServerWriter<p2::v1::WatchJobsResponse>& writer) const;
  // A command on one job whose answer is that job.
  template <typename Command, typename Request>
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext* call, const Request& request, const std::string& reason,
                                p2::v1::Job* response);

  ServiceContext& context_;
};

}  // namespace p2::rpc
