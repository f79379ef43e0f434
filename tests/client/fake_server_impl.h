// What the fake services share. Each of them does little: it looks at the state, or changes it, under the server's
// lock.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/service_type.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/error_reason.h"
#include "common/rpc/grpc_status.h"
#include "tests/client/fake_server.h"

namespace p2::testing {

struct FakeServer::Impl {
  absl::Mutex mutex;
  FakeState state ABSL_GUARDED_BY(mutex);
  int failures_left ABSL_GUARDED_BY(mutex) = 0;
  bool fail_after_doing ABSL_GUARDED_BY(mutex) = false;
  absl::Status failure ABSL_GUARDED_BY(mutex);
  std::atomic<bool> stopping = false;
  int port = 0;
  std::vector<std::unique_ptr<grpc::Service>> services;
  std::unique_ptr<grpc::Server> server;

  // A unary call under the lock, with the failure that is due.
  grpc::Status Unary(const std::function<grpc::Status(FakeState&)>& handle) {
    absl::MutexLock lock(&mutex);
    ++state.calls;
    const bool fail = failures_left > 0;
    if (fail) --failures_left;
    if (fail && !fail_after_doing) return ToGrpcStatus(failure);
    const grpc::Status status = handle(state);
    return fail ? ToGrpcStatus(failure) : status;
  }

  // Notes something, where the answer comes from elsewhere.
  void Remember(const std::function<void(FakeState&)>& use) {
    absl::MutexLock lock(&mutex);
    use(state);
  }

  // Sends what `next` yields until it says that the stream has ended.
  enum class Step { kSent, kWait, kEnd };
  grpc::Status Stream(grpc::ServerContext* context, const std::function<Step(FakeState&)>& next) {
    while (!stopping && !context->IsCancelled()) {
      absl::MutexLock lock(&mutex);
      const Step step = next(state);
      if (step == Step::kEnd) return grpc::Status::OK;
      if (step == Step::kWait)
        mutex.AwaitWithTimeout(absl::Condition(
                                   +[](bool* never) { return *never; }, &never_),
                               absl::Milliseconds(10));
    }
    return grpc::Status(grpc::UNAVAILABLE, "the server stops");
  }

  void Change(FakeState& s, const v1::Job& job, v1::WatchJobsResponse::Type type) {
    v1::WatchJobsResponse& change = s.changes.emplace_back();
    change.set_type(type);
    change.set_revision(static_cast<int64_t>(s.changes.size()));
    *change.mutable_job() = job;
  }

 private:
  bool never_ = false;
};

// The services, a few a file. `impl` must outlive them.
using Services = std::vector<std::unique_ptr<grpc::Service>>;
void AddJobService(FakeServer::Impl& impl, Services& services);
void AddQueueService(FakeServer::Impl& impl, Services& services);
// Metrics, logs and events: what comes in as a stream.
void AddStreamServices(FakeServer::Impl& impl, Services& services);
// Presets, datasets, checkpoints, artifacts, workers and roots: what is listed and read.
void AddCatalogServices(FakeServer::Impl& impl, Services& services);

inline bool Terminal(const v1::Job& job) {
  return job.state() == v1::Job::SUCCEEDED || job.state() == v1::Job::FAILED || job.state() == v1::Job::CANCELLED;
}
inline grpc::Status NotFound(const std::string& type, const std::string& name) {
  return ToGrpcStatus(ResourceNotFoundError(type, name, "`p2ctl list` shows them"));
}

}  // namespace p2::testing
