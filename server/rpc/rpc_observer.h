// Counts every RPC that ends: an interceptor over all services, health and reflection included.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "grpcpp/support/server_interceptor.h"
#include "grpcpp/support/status.h"

namespace p2::rpc {

// `p2.v1.JobService`, `CreateJob`, the code, how long it took. Called on gRPC's threads: thread-safe and quick.
using RpcEnded = std::function<void(const std::string& service, const std::string& method, grpc::StatusCode code,
                                    absl::Duration taken)>;

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> NewRpcObserver(RpcEnded ended);

}  // namespace p2::rpc
