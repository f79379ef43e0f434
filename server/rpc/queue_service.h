#pragma once

#include "p2/v1/queue_service.grpc.pb.h"
#include "server/rpc/service_context.h"

namespace p2::rpc {

// Thread-safe.
class QueueService final : public p2::v1::QueueService::CallbackService {
 public:
  explicit QueueService(ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* ListQueues(grpc::CallbackServerContext* call, const p2::v1::ListQueuesRequest* request,
                                       p2::v1::ListQueuesResponse* response) override;
  grpc::ServerUnaryReactor* GetQueue(grpc::CallbackServerContext* call, const p2::v1::GetQueueRequest* request,
                                     p2::v1::Queue* response) override;
  grpc::ServerUnaryReactor* CreateQueue(grpc::CallbackServerContext* call, const p2::v1::CreateQueueRequest* request,
                                        p2::v1::Queue* response) override;
  grpc::ServerUnaryReactor* UpdateQueue(grpc::CallbackServerContext* call, const p2::v1::UpdateQueueRequest* request,
                                        p2::v1::Queue* response) override;
  grpc::ServerUnaryReactor* DeleteQueue(grpc::CallbackServerContext* call, const p2::v1::DeleteQueueRequest* request,
                                        p2::v1::DeleteQueueResponse* response) override;
  grpc::ServerUnaryReactor* DescribeQueue(grpc::CallbackServerContext* call,
                                          const p2::v1::DescribeQueueRequest* request,
                                          p2::v1::QueueDescription* response) override;
  grpc::ServerUnaryReactor* MoveJob(grpc::CallbackServerContext* call, const p2::v1::MoveJobRequest* request,
                                    p2::v1::Job* response) override;
  grpc::ServerUnaryReactor* ListQuotas(grpc::CallbackServerContext* call, const p2::v1::ListQuotasRequest* request,
                                       p2::v1::ListQuotasResponse* response) override;
  grpc::ServerUnaryReactor* SetQuota(grpc::CallbackServerContext* call, const p2::v1::SetQuotaRequest* request,
                                     p2::v1::Quota* response) override;
  grpc::ServerUnaryReactor* SetWeight(grpc::CallbackServerContext* call, const p2::v1::SetWeightRequest* request,
                                      p2::v1::FairShare* response) override;

 private:
  absl::StatusOr<p2::v1::Queue> Find(const std::string& name) const;
  absl::StatusOr<p2::v1::QueueDescription> Describe(const std::string& name) const;
  grpc::ServerUnaryReactor* Set(grpc::CallbackServerContext* call, const p2::v1::Queue& queue,
                                const std::string& request_id, const google::protobuf::Message& request, bool create,
                                p2::v1::Queue* response);

  ServiceContext& context_;
};

}  // namespace p2::rpc
