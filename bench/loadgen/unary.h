// Unary calls that wait on no thread, and the connections that carry them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/rpc/grpc_status.h"
#include "grpcpp/grpcpp.h"

namespace p2::loadgen {

constexpr absl::Duration kCallTimeout = absl::Seconds(30);

// A TCP connection of its own; channels of the same address would else share one. UNAVAILABLE if nobody answers.
inline absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetMaxReceiveMessageSize(-1);
  auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  if (!channel->WaitForConnected(absl::ToChronoTime(absl::Now() + kCallTimeout))) {
    return absl::UnavailableError(absl::StrCat("no gRPC server answers at ", address));
  }
  return channel;
}

// Stubs over `count` connections, given out in turn.
template <typename Service>
absl::StatusOr<std::vector<std::unique_ptr<typename Service::Stub>>> ConnectStubs(const std::string& address,
                                                                                  int count) {
  std::vector<std::unique_ptr<typename Service::Stub>> stubs;
  for (int i = 0; i < count; ++i) {
    const auto channel = Connect(address);
    if (!channel.ok()) return channel.status();
    stubs.push_back(Service::NewStub(*channel));
  }
  return stubs;
}

// Calls `done` once, on a thread of gRPC. `method(context, request, response, callback)`: of a stub's async().
template <typename Request, typename Response, typename Method>
void CallAsync(Method method, Request request, std::function<void(const absl::Status&, const Response&)> done) {
  struct Call {
    grpc::ClientContext context;
    Request request;
    Response response;
    std::function<void(const absl::Status&, const Response&)> done;
  };
  auto* call = new Call{.request = std::move(request), .done = std::move(done)};
  call->context.set_deadline(absl::ToChronoTime(absl::Now() + kCallTimeout));
  call->context.AddMetadata("p2-user", "loadgen");
  method(&call->context, &call->request, &call->response, [call](const grpc::Status& status) {
    std::unique_ptr<Call> owned(call);  // gRPC is done with it.
    const Response response = std::move(owned->response);
    const auto done = std::move(owned->done);
    // Before the caller hears of it: the context holds the channel, and if this thread of gRPC's were the last to let
    // go of that, it would wait for its own end and go on in freed memory.
    owned.reset();
    done(FromGrpcStatus(status), response);
  });
}

}  // namespace p2::loadgen
