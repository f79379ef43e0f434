// QueueService, over maps of queues and quotas.
#include <string>

#include "p2/v1/queue_service.grpc.pb.h"
#include "tests/client/fake_server_impl.h"

namespace p2::testing {
namespace {

using grpc::ServerContext;

struct QueueFake final : v1::QueueService::Service {
  explicit QueueFake(FakeServer::Impl& impl) : impl(impl) {}

  grpc::Status ListQueues(ServerContext*, const v1::ListQueuesRequest*, v1::ListQueuesResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const auto& [name, queue] : s.queues) *response->add_queues() = queue;
      return grpc::Status::OK;
    });
  }
  grpc::Status GetQueue(ServerContext*, const v1::GetQueueRequest* request, v1::Queue* response) override {
    return impl.Unary([&](FakeState& s) {
      const auto found = s.queues.find(request->name());
      if (found == s.queues.end()) return NotFound("Queue", request->name());
      *response = found->second;
      return grpc::Status::OK;
    });
  }
  grpc::Status CreateQueue(ServerContext*, const v1::CreateQueueRequest* request, v1::Queue* response) override {
    return impl.Unary([&](FakeState& s) {
      s.request_ids.push_back(request->request_id());
      if (s.queues.count(request->queue().name()) > 0)
        return ToGrpcStatus(Error(ErrorReason::kQueueExists, "a queue of that name is there"));
      *response = s.queues[request->queue().name()] = request->queue();
      return grpc::Status::OK;
    });
  }
  grpc::Status UpdateQueue(ServerContext*, const v1::UpdateQueueRequest* request, v1::Queue* response) override {
    return impl.Unary([&](FakeState& s) {
      *response = s.queues[request->queue().name()] = request->queue();
      return grpc::Status::OK;
    });
  }
  grpc::Status DeleteQueue(ServerContext*, const v1::DeleteQueueRequest* request, v1::DeleteQueueResponse*) override {
    return impl.Unary([&](FakeState& s) {
      const auto found = s.queues.find(request->name());
      if (found == s.queues.end()) return NotFound("Queue", request->name());
      if (found->second.queued_jobs() > 0) return ToGrpcStatus(Error(ErrorReason::kQueueInUse, "a live job is in it"));
      s.queues.erase(found);
      return grpc::Status::OK;
    });
  }
  grpc::Status DescribeQueue(ServerContext*, const v1::DescribeQueueRequest* request,
                             v1::QueueDescription* response) override {
    return impl.Unary([&](FakeState& s) {
      const auto found = s.queues.find(request->name());
      if (found == s.queues.end()) return NotFound("Queue", request->name());
      *response = s.description;
      *response->mutable_queue() = found->second;
      return grpc::Status::OK;
    });
  }
  grpc::Status MoveJob(ServerContext*, const v1::MoveJobRequest* request, v1::Job* response) override {
    return impl.Unary([&](FakeState& s) {
      s.last_move = *request;
      *response = s.jobs[request->name()];
      return grpc::Status::OK;
    });
  }
  grpc::Status ListQuotas(ServerContext*, const v1::ListQuotasRequest*, v1::ListQuotasResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const auto& [name, quota] : s.quotas) *response->add_quotas() = quota;
      return grpc::Status::OK;
    });
  }
  grpc::Status SetQuota(ServerContext*, const v1::SetQuotaRequest* request, v1::Quota* response) override {
    return impl.Unary([&](FakeState& s) {
      *response = s.quotas[request->quota().name()] = request->quota();
      return grpc::Status::OK;
    });
  }
  grpc::Status SetWeight(ServerContext*, const v1::SetWeightRequest* request, v1::FairShare* response) override {
    return impl.Unary([&](FakeState&) {
      response->set_id(request->id());
      response->set_weight(request->weight());
      response->set_usage(7200);
      response->set_score(7200 / request->weight());
      return grpc::Status::OK;
    });
  }
  FakeServer::Impl& impl;
};

}  // namespace

void AddQueueService(FakeServer::Impl& impl, Services& services) {
  services.push_back(std::make_unique<QueueFake>(impl));
}

}  // namespace p2::testing
