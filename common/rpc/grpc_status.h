// The one place where gRPC's status and absl's meet. The codes are the same numbers; google.rpc details (BadRequest,
// ErrorInfo, ResourceInfo, PreconditionFailure) travel as payloads keyed by their type URL, and on the wire in
// `grpc-status-details-bin`.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "google/rpc/error_details.pb.h"
#include "grpcpp/support/status.h"

namespace p2 {

// With every payload as a detail, the first of them google.rpc.ErrorInfo with the reason (common/error_reason.h), which
// every error has. Messages are cut to 4 KiB and made valid UTF-8, so that the trailers stay small.
grpc::Status ToGrpcStatus(const absl::Status& status);
// With every detail as a payload. A detail blob that does not parse is dropped. What gRPC itself refuses (a message
// too large, or none at all, such as text that is not UTF-8) gets words that say what to do.
absl::Status FromGrpcStatus(const grpc::Status& status);

// Adds `detail` (a google.rpc message) to a status that is not OK; one of each type.
void AddDetail(absl::Status& status, const google::protobuf::Message& detail);
// The detail of T's type, if the status has one that parses.
template <typename T>
std::optional<T> GetDetail(const absl::Status& status);

// A bad field: path in the request (`spec.training.batch`) and what is wrong with it.
using FieldViolation = std::pair<std::string, std::string>;
// The same status with `prefix` before its message, details kept.
absl::Status WithPrefix(absl::string_view prefix, const absl::Status& status);
// INVALID_ARGUMENT that names every bad field at once, in the message and as google.rpc.BadRequest. OK if there are
// none.
absl::Status BadRequestError(const std::vector<FieldViolation>& violations);
// NOT_FOUND (JOB_NOT_FOUND for `Job`), with google.rpc.ResourceInfo. `hint`: what to do (`p2ctl list` shows them).
absl::Status ResourceNotFoundError(absl::string_view type, absl::string_view name, absl::string_view hint);

std::string DetailTypeUrl(const google::protobuf::Message& detail);

template <typename T>
std::optional<T> GetDetail(const absl::Status& status) {
  T detail;
  const auto payload = status.GetPayload(DetailTypeUrl(detail));
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) return std::nullopt;
  return detail;
}

}  // namespace p2
