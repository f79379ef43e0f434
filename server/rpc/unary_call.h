// How unary methods answer on gRPC's callback API.
#pragma once

#include <chrono>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/rpc/grpc_status.h"
#include "grpcpp/alarm.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"

namespace p2::rpc {

// Answers at once.
template <typename Response>
grpc::ServerUnaryReactor* Reply(grpc::CallbackServerContext* context, Response* response,
                                absl::StatusOr<Response> result) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (result.ok()) *response = *std::move(result);
  reactor->Finish(ToGrpcStatus(result.status()));
  return reactor;
}

// A call that is answered later, from any thread, or, if its client set no deadline, by ours: whatever comes first.
// Thread-safe.
template <typename Response>
class UnaryCall : public std::enable_shared_from_this<UnaryCall<Response>> {
 public:
  // `timeout`: of a call that sets no deadline.
  static std::shared_ptr<UnaryCall> Start(grpc::CallbackServerContext* context, Response* response,
                                          absl::Duration timeout) {
    std::shared_ptr<UnaryCall> call(new UnaryCall(context, response));
    if (context->deadline() == std::chrono::system_clock::time_point::max()) {
      call->alarm_ = std::make_unique<grpc::Alarm>();
      call->alarm_->Set(absl::ToChronoTime(absl::Now() + timeout), [call, timeout](bool expired) {
        if (expired) {
          call->Finish(absl::DeadlineExceededError(
              absl::StrCat("no answer within ", absl::FormatDuration(timeout),
                           ", the deadline of a call that sets none; it may still take effect: try again with the same "
                           "request_id")));
        }
      });
    }
    return call;
  }

  grpc::ServerUnaryReactor* reactor() const { return reactor_; }

  // The first call counts.
  void Finish(absl::StatusOr<Response> result) {
    {
      absl::MutexLock lock(&mutex_);
      if (std::exchange(finished_, true)) return;
    }
    if (alarm_ != nullptr) alarm_->Cancel();
    if (result.ok()) *response_ = *std::move(result);
    reactor_->Finish(ToGrpcStatus(result.status()));
  }

 private:
  UnaryCall(grpc::CallbackServerContext* context, Response* response)
      : reactor_(context->DefaultReactor()), response_(response) {}

  // Constant after construction. gRPC's, valid until Finish.
  grpc::ServerUnaryReactor* const reactor_;
  Response* const response_;
  std::unique_ptr<grpc::Alarm> alarm_;  // Null if the client set a deadline.

  absl::Mutex mutex_;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace p2::rpc
