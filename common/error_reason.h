// Why a call of the API failed, for programs: the `reason` of google.rpc.ErrorInfo (domain "p2"), stable from release
// to release, where messages are not. docs/errors.md lists them; a test compares. The reason rides on an absl::Status
// as a payload, so that the pure core can name it without protobuf; common/rpc/grpc_status.h makes the ErrorInfo of it.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace p2 {

enum class ErrorReason {
  kInvalidRequest,
  kInvalidSpec,
  kPageTokenInvalid,
  kMessageTooBig,
  kNotFound,
  kJobNotFound,
  kPresetNotFound,
  kDatasetNotFound,
  kCheckpointNotFound,
  kArtifactNotFound,
  kWorkerNotFound,
  kQueueNotFound,
  kAlreadyExists,
  kDatasetExists,
  kQueueExists,
  kWorkerNameTaken,
  kRequestIdReused,
  kPreconditionFailed,
  kJobStateForbids,
  kCheckpointInUse,
  kQueueInUse,
  kDatasetMismatch,
  kRootNotVisible,
  kRootMismatch,
  kProtocolUnsupported,
  kSpoolOutOfStep,
  kRevisionUnknown,
  kLimitReached,
  kQuotaExceeded,
  kRateLimited,
  kDiskFull,
  kPermissionDenied,
  kTryAgain,
  kShuttingDown,
  kReaderTooSlow,
  kDeadlineExceeded,
  kCancelled,
  kStoreDamaged,
  kInternal,
  kStoreFailed,
};

struct ErrorReasonRow {
  ErrorReason reason;
  absl::string_view name;  // UPPER_SNAKE, as on the wire.
  absl::StatusCode code;
};
// All of them. The first row of a code stands for every error of that code which names no reason of its own.
absl::Span<const ErrorReasonRow> ErrorReasons();

// A status with the reason and the code that belongs to it.
absl::Status Error(ErrorReason reason, absl::string_view message);
// Names the reason of a status that is not OK, and keeps its code.
void SetReason(absl::Status& status, ErrorReason reason);
// The name that `status` carries, or its code's; "" if it is OK.
absl::string_view ReasonOf(const absl::Status& status);

inline constexpr absl::string_view kErrorDomain = "p2";
// Key of the payload; its value is the name. Never on the wire.
inline constexpr absl::string_view kErrorReasonPayload = "p2/error-reason";

}  // namespace p2
