// p2d's gRPC server: every service of p2.v1, health, reflection on loopback, and the limits that keep a careless or
// hostile client from hurting the others.
#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/coordinator/coordinator.h"
#include "server/rpc/admin_service.h"
#include "server/rpc/rpc_observer.h"
#include "server/rpc/service_context.h"
#include "server/store/blob_store.h"
#include "server/store/job_store.h"

namespace p2::rpc {

// `127.0.0.1:7250`, `[::1]:0`, `localhost:7250` -> true. For anything else false, unparsable text included.
bool IsLoopback(absl::string_view address);

struct RpcServerOptions {
  // HOST:PORT; port 0: an ephemeral one.
  std::string address = "127.0.0.1:7250";
  // Larger requests get RESOURCE_EXHAUSTED, with this limit in the message.
  int max_message_bytes = 4 << 20;
  int max_streams_per_connection = 100;
  // Where these and 512 files more are open, or nearly as many as the process may open, new connections are closed.
  int max_connections = 16'000;
  int max_metadata_bytes = 16 * 1024;
  // Of streams of metrics, logs and artifacts and of backups together; a call beyond gets RESOURCE_EXHAUSTED. Watches
  // and workers hold none.
  int max_threads = 1024;
  int64_t memory_quota_bytes = int64_t{256} << 20;
  // A connection without traffic is asked for a sign of life after the interval, and ended after the timeout.
  absl::Duration keepalive_interval = absl::Seconds(20);
  absl::Duration keepalive_timeout = absl::Seconds(10);
  CallTimes times;
  SubmitLimiter::Options submits;
  // Optional.
  RpcEnded ended;
};

// Thread-safe.
class RpcServer {
 public:
  // Serves when it returns; health says SERVING. What it borrows must outlive it. ALREADY_EXISTS if the port is in use,
  // INVALID_ARGUMENT if the address cannot be listened on.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Start(RpcServerOptions options,
                                                          coordinator::Coordinator& coordinator,
                                                          const store::JobStore& store, const store::BlobStore& blobs,
                                                          const AdminParts& admin);
  ~RpcServer();

  int port() const;
  // Health off, streams end with UNAVAILABLE, new calls are refused, those in progress have `grace` to finish.
  // Idempotent.
  void Stop(absl::Duration grace);

 private:
  struct Impl;
  explicit RpcServer(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

}  // namespace p2::rpc
