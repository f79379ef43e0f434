#pragma once

#include <memory>
#include <set>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "p2/v1/worker_service.grpc.pb.h"
#include "server/rpc/service_context.h"

namespace p2::rpc {

using WorkerServiceBase = p2::v1::WorkerService::WithCallbackMethod_Connect<p2::v1::WorkerService::Service>;

// The workers' streams, bridged to the coordinator's sessions. None holds a thread: a cluster has thousands.
// Thread-safe.
class WorkerService final : public WorkerServiceBase {
 public:
  explicit WorkerService(ServiceContext& context) : context_(context) {}

  grpc::ServerBidiReactor<p2::v1::ConnectRequest, p2::v1::ConnectResponse>* Connect(
      grpc::CallbackServerContext* call) override;

  // Ends every stream, and those to come: workers connect again.
  void Stop();

 private:
  class Stream;

  ServiceContext& context_;

  absl::Mutex mutex_;
  std::set<std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace p2::rpc
