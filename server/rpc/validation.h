// What requests must keep to, beyond what the scheduler and p2_spec check. Pure.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/rpc/grpc_status.h"
#include "google/protobuf/message.h"
#include "p2/v1/dataset_service.pb.h"
#include "p2/v1/job_service.pb.h"

namespace p2::rpc {

inline constexpr int kMaxPageSize = 1000;

// `page_size` of a request: `fallback` for 0. INVALID_ARGUMENT if negative or above kMaxPageSize.
absl::StatusOr<int> PageSize(int page_size, int fallback);

// Each appends what is wrong with one part of a request.
void CheckRequestId(absl::string_view request_id, std::vector<FieldViolation>& violations);
void CheckLabels(const std::map<std::string, std::string>& labels, std::vector<FieldViolation>& violations);
// Text for people that ends up in events: no control characters, at most 500 bytes.
void CheckText(absl::string_view field, absl::string_view text, std::vector<FieldViolation>& violations);

// At most 1000 bytes, relative, without empty parts, . and ..
bool IsPathBelowRoot(absl::string_view path);

// -1000 to 1000.
void CheckPriority(int priority, std::vector<FieldViolation>& violations);

// Everything about the request but its spec.
absl::Status ValidateCreateJob(const p2::v1::CreateJobRequest& request);
absl::Status ValidateDataset(const p2::v1::RegisterDatasetRequest& request);
// request_id and reason of a command.
absl::Status ValidateCommand(absl::string_view request_id, absl::string_view reason);

// SHA-256 (hex) of the request without its request_id: what makes two requests the same.
std::string PayloadSha256(const google::protobuf::Message& request);

}  // namespace p2::rpc
