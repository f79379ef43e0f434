#pragma once

#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "p2/v1/cluster_service.grpc.pb.h"
#include "server/rpc/service_context.h"

namespace p2::rpc {

// Thread-safe.
class ClusterService final : public p2::v1::ClusterService::CallbackService {
 public:
  explicit ClusterService(ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* call,
                                          const p2::v1::GetServerInfoRequest* request,
                                          p2::v1::ServerInfo* response) override;
  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* call, const p2::v1::ListWorkersRequest* request,
                                        p2::v1::ListWorkersResponse* response) override;
  grpc::ServerUnaryReactor* ListRoots(grpc::CallbackServerContext* call, const p2::v1::ListRootsRequest* request,
                                      p2::v1::ListRootsResponse* response) override;
  grpc::ServerUnaryReactor* CordonWorker(grpc::CallbackServerContext* call, const p2::v1::CordonWorkerRequest* request,
                                         p2::v1::Worker* response) override;
  grpc::ServerUnaryReactor* UncordonWorker(grpc::CallbackServerContext* call,
                                           const p2::v1::UncordonWorkerRequest* request,
                                           p2::v1::Worker* response) override;
  grpc::ServerUnaryReactor* DrainWorker(grpc::CallbackServerContext* call, const p2::v1::DrainWorkerRequest* request,
                                        p2::v1::Worker* response) override;

 private:
  absl::StatusOr<p2::v1::ListWorkersResponse> List(const p2::v1::ListWorkersRequest& request) const;
  absl::StatusOr<p2::v1::ListRootsResponse> Roots(const p2::v1::ListRootsRequest& request) const;
  // With the jobs that hold its slots.
  p2::v1::Worker View(const scheduler::WorkerRecord& worker) const;
  // A command on one worker.
  template <typename Command, typename Request>
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext* call, const Request& request, Command command,
                                p2::v1::Worker* response);

  ServiceContext& context_;
  const absl::Time start_time_ = absl::Now();
};

}  // namespace p2::rpc
