// Between the messages of p2-worker's stream and the scheduler's plain events and actions.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "p2/v1/worker_service.pb.h"
#include "server/scheduler/action.h"
#include "server/scheduler/event.h"

namespace p2::coordinator {

// INVALID_ARGUMENT: a bad worker ID, slot or root. `session` is left 0.
absl::StatusOr<scheduler::WorkerConnected> FromHello(const v1::Hello& hello);
scheduler::Heartbeat FromHeartbeat(const v1::Heartbeat& heartbeat, absl::string_view worker, int64_t session);
scheduler::PrepareReply FromPrepareReply(const v1::PrepareReply& reply, absl::string_view worker);
scheduler::DeleteDone FromDeleteDone(const v1::DeleteDone& done, absl::string_view worker);

// Chunks of logs and artifacts become BytesStored: their bytes are the caller's to store.
scheduler::SpoolReport FromSpool(const v1::SpoolRecord& record, absl::string_view worker, absl::string_view spool_id);

v1::ConnectResponse ToMessage(const scheduler::Prepare& prepare);
// The launch's directories are the worker's to fill in.
v1::ConnectResponse ToMessage(const scheduler::StartGang& start, const v1::TrainingSpec& spec);
v1::ConnectResponse ToMessage(const scheduler::StopAttempt& stop);
v1::ConnectResponse ToMessage(const scheduler::DeletePath& path);

}  // namespace p2::coordinator
