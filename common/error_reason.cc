#include "common/error_reason.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/cord.h"

namespace p2 {
namespace {

using Code = absl::StatusCode;
using Reason = ErrorReason;

// In the order of the enum.
constexpr ErrorReasonRow kRows[] = {
    {Reason::kInvalidRequest, "INVALID_REQUEST", Code::kInvalidArgument},
    {Reason::kInvalidSpec, "INVALID_SPEC", Code::kInvalidArgument},
    {Reason::kPageTokenInvalid, "PAGE_TOKEN_INVALID", Code::kInvalidArgument},
    {Reason::kMessageTooBig, "MESSAGE_TOO_BIG", Code::kInvalidArgument},
    {Reason::kNotFound, "NOT_FOUND", Code::kNotFound},
    {Reason::kJobNotFound, "JOB_NOT_FOUND", Code::kNotFound},
    {Reason::kPresetNotFound, "PRESET_NOT_FOUND", Code::kNotFound},
    {Reason::kDatasetNotFound, "DATASET_NOT_FOUND", Code::kNotFound},
    {Reason::kCheckpointNotFound, "CHECKPOINT_NOT_FOUND", Code::kNotFound},
    {Reason::kArtifactNotFound, "ARTIFACT_NOT_FOUND", Code::kNotFound},
    {Reason::kWorkerNotFound, "WORKER_NOT_FOUND", Code::kNotFound},
    {Reason::kQueueNotFound, "QUEUE_NOT_FOUND", Code::kNotFound},
    {Reason::kAlreadyExists, "ALREADY_EXISTS", Code::kAlreadyExists},
    {Reason::kDatasetExists, "DATASET_EXISTS", Code::kAlreadyExists},
    {Reason::kQueueExists, "QUEUE_EXISTS", Code::kAlreadyExists},
    {Reason::kWorkerNameTaken, "WORKER_NAME_TAKEN", Code::kAlreadyExists},
    {Reason::kRequestIdReused, "REQUEST_ID_REUSED", Code::kAlreadyExists},
    {Reason::kPreconditionFailed, "PRECONDITION_FAILED", Code::kFailedPrecondition},
    {Reason::kJobStateForbids, "JOB_STATE_FORBIDS", Code::kFailedPrecondition},
    {Reason::kCheckpointInUse, "CHECKPOINT_IN_USE", Code::kFailedPrecondition},
    {Reason::kQueueInUse, "QUEUE_IN_USE", Code::kFailedPrecondition},
    {Reason::kDatasetMismatch, "DATASET_MISMATCH", Code::kFailedPrecondition},
    {Reason::kRootNotVisible, "ROOT_NOT_VISIBLE", Code::kFailedPrecondition},
    {Reason::kRootMismatch, "ROOT_MISMATCH", Code::kFailedPrecondition},
    {Reason::kProtocolUnsupported, "PROTOCOL_UNSUPPORTED", Code::kFailedPrecondition},
    {Reason::kSpoolOutOfStep, "SPOOL_OUT_OF_STEP", Code::kFailedPrecondition},
    {Reason::kRevisionUnknown, "REVISION_UNKNOWN", Code::kOutOfRange},
    {Reason::kLimitReached, "LIMIT_REACHED", Code::kResourceExhausted},
    {Reason::kQuotaExceeded, "QUOTA_EXCEEDED", Code::kResourceExhausted},
    {Reason::kRateLimited, "RATE_LIMITED", Code::kResourceExhausted},
    {Reason::kDiskFull, "DISK_FULL", Code::kResourceExhausted},
    {Reason::kPermissionDenied, "PERMISSION_DENIED", Code::kPermissionDenied},
    {Reason::kTryAgain, "TRY_AGAIN", Code::kUnavailable},
    {Reason::kShuttingDown, "SHUTTING_DOWN", Code::kUnavailable},
    {Reason::kReaderTooSlow, "READER_TOO_SLOW", Code::kUnavailable},
    {Reason::kDeadlineExceeded, "DEADLINE_EXCEEDED", Code::kDeadlineExceeded},
    {Reason::kCancelled, "CANCELLED", Code::kCancelled},
    {Reason::kStoreDamaged, "STORE_DAMAGED", Code::kDataLoss},
    {Reason::kInternal, "INTERNAL", Code::kInternal},
    {Reason::kStoreFailed, "STORE_FAILED", Code::kInternal},
};

const ErrorReasonRow& RowOf(ErrorReason reason) { return kRows[static_cast<size_t>(reason)]; }

template <typename Wanted>
const ErrorReasonRow* FindRow(const Wanted& wanted) {
  const auto row = std::find_if(std::begin(kRows), std::end(kRows), wanted);
  return row == std::end(kRows) ? nullptr : row;
}

}  // namespace

absl::Span<const ErrorReasonRow> ErrorReasons() { return kRows; }

absl::Status Error(ErrorReason reason, absl::string_view message) {
  absl::Status status(RowOf(reason).code, message);
  SetReason(status, reason);
  return status;
}

void SetReason(absl::Status& status, ErrorReason reason) {
  status.SetPayload(kErrorReasonPayload, absl::Cord(RowOf(reason).name));
}

absl::string_view ReasonOf(const absl::Status& status) {
  if (status.ok()) return "";
  const ErrorReasonRow* row = nullptr;
  if (const auto name = status.GetPayload(kErrorReasonPayload); name.has_value()) {
    row = FindRow([&name](const ErrorReasonRow& it) { return *name == it.name; });
  } else {
    row = FindRow([&status](const ErrorReasonRow& it) { return it.code == status.code(); });
  }
  return row != nullptr ? row->name : RowOf(ErrorReason::kInternal).name;
}

}  // namespace p2
