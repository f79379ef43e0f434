#include "worker/trainer/exit_code.h"

#include <string>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace p2::trainer {
namespace {

constexpr char kPayload[] = "p2.trainer/exit_code";

}  // namespace

absl::Status WithExit(ExitCode code, absl::Status status) {
  if (!status.ok() && !status.GetPayload(kPayload))
    status.SetPayload(kPayload, absl::Cord(absl::StrCat(static_cast<int>(code))));
  return status;
}

ExitCode ExitCodeOf(const absl::Status& status) {
  if (const auto mark = status.GetPayload(kPayload)) {
    int code = 1;
    return absl::SimpleAtoi(std::string(*mark), &code) ? static_cast<ExitCode>(code) : ExitCode::kUnknown;
  }
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return ExitCode::kDone;
    case absl::StatusCode::kUnavailable:
      return ExitCode::kComm;
    case absl::StatusCode::kResourceExhausted:
      return ExitCode::kMemory;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
      return ExitCode::kBadSpec;
    case absl::StatusCode::kDataLoss:
      return ExitCode::kData;
    default:
      return ExitCode::kUnknown;
  }
}

}  // namespace p2::trainer
