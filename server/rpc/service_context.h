// What every service is built on, and the few things that they all do.
#pragma once

#include <atomic>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/error_reason.h"
#include "google/protobuf/message.h"
#include "grpcpp/server_context.h"
#include "server/coordinator/coordinator.h"
#include "server/rpc/job_views.h"
#include "server/rpc/push_streams.h"
#include "server/rpc/submit_limiter.h"
#include "server/store/blob_store.h"
#include "server/store/job_store.h"

namespace p2::rpc {

// A page of a list ends early when it has grown to this: clients take 4 MiB.
inline constexpr size_t kMaxPageBytes = size_t{2} << 20;

// Of calls, whatever they ask for.
struct CallTimes {
  // What a unary call without a deadline of its own gets.
  absl::Duration timeout = absl::Seconds(30);
  // A watch says where it stands after so long without a change.
  absl::Duration watch_interval = absl::Seconds(15);
};

// Thread-safe; everything that it borrows must outlive the services.
struct ServiceContext {
  const CallTimes times;
  coordinator::Coordinator& coordinator;
  const store::JobStore& store;
  const store::BlobStore& blobs;
  JobViews views;
  SubmitLimiter submits;
  PushStreams streams{times.watch_interval};
  PushStreams readers{times.watch_interval};  // Those that read files and old rows: watches do not wait for the disk.
  // Set before the server shuts down: open streams end with UNAVAILABLE.
  std::atomic<bool> stopping = false;

  // A stream has to end: its client is gone or p2d stops.
  bool Ended(const grpc::ServerContext& call) const { return call.IsCancelled() || stopping.load(); }
  // What to tell a client whose stream ended by Ended.
  absl::Status EndStatus(const grpc::ServerContext& call) const {
    return call.IsCancelled() ? absl::CancelledError("cancelled by the client")
                              : Error(ErrorReason::kShuttingDown, "p2d stops; try again");
  }

  // The job that `name` (`jobs/{job}`) means. INVALID_ARGUMENT, NOT_FOUND.
  absl::StatusOr<scheduler::JobPtr> FindJob(absl::string_view name) const;
  // The same by a unique beginning of the ID. INVALID_ARGUMENT, with the candidates, if it is not unique.
  absl::StatusOr<scheduler::JobPtr> FindJobByPrefix(absl::string_view name) const;
};

// Who calls, as the client says it (metadata `p2-user`), unverified: `user:ann`; `user:unknown` without.
std::string Actor(const grpc::ServerContextBase& call, absl::string_view owner = "");
// `previous` is the coordinator's to fill in.
scheduler::CommandInfo MakeCommandInfo(const grpc::ServerContextBase& call, absl::string_view request_id,
                                       const google::protobuf::Message& request, absl::string_view owner = "");

}  // namespace p2::rpc
