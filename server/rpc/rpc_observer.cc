#include "server/rpc/rpc_observer.h"

#include <chrono>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "grpcpp/server_context.h"

namespace p2::rpc {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::Interceptor;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;

// What gRPC's own handler says when no request came (grpcpp/support/proto_buffer_reader.h).
constexpr char kNoRequest[] = "Couldn't initialize byte buffer reader";

class Observer : public Interceptor {
 public:
  Observer(ServerRpcInfo& info, const RpcEnded& ended)
      : method_(info.method()), context_(*info.server_context()), ended_(ended) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      absl::string_view path = method_;
      absl::ConsumePrefix(&path, "/");
      const size_t slash = path.find('/');
      const absl::string_view service = path.substr(0, slash);
      const absl::string_view method = slash == path.npos ? absl::string_view() : path.substr(slash + 1);
      ended_(std::string(service), std::string(method), CodeSeen(methods->GetSendStatus()), absl::Now() - start_);
    }
    methods->Proceed();
  }

 private:
  // As the client sees the end: when it has left, or its deadline has passed, nothing that is sent reaches it.
  grpc::StatusCode CodeSeen(const grpc::Status& sent) const {
    if (sent.ok()) return sent.error_code();
    const bool passed = context_.deadline() <= std::chrono::system_clock::now();
    // One that left before its request had come: the call may not know yet that it is cancelled.
    const bool left = sent.error_code() == grpc::StatusCode::INTERNAL && sent.error_message() == kNoRequest;
    if (!left && !context_.IsCancelled()) return sent.error_code();
    return passed ? grpc::StatusCode::DEADLINE_EXCEEDED : grpc::StatusCode::CANCELLED;
  }

  const std::string method_;
  const grpc::ServerContextBase& context_;  // The call's own: outlives its interceptors.
  const RpcEnded& ended_;
  const absl::Time start_ = absl::Now();
};

class Factory : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(RpcEnded ended) : ended_(std::move(ended)) {}
  Interceptor* CreateServerInterceptor(ServerRpcInfo* info) override { return new Observer(*info, ended_); }

 private:
  const RpcEnded ended_;
};

}  // namespace

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> NewRpcObserver(RpcEnded ended) {
  return std::make_unique<Factory>(std::move(ended));
}

}  // namespace p2::rpc
