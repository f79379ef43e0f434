// Exit codes of p2ctl (CLI.md) and how an error is shown.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace p2::ctl {

enum ExitCode {
  kOk = 0,
  kError = 1,
  kUsage = 2,  // Wrong command line, or an invalid spec.
  kNotFound = 3,
  kNotAuthenticated = 4,
  kDenied = 5,       // Permission or quota.
  kConflict = 6,     // The state forbids it.
  kUnavailable = 7,  // The server was not reached, retries included.
  kTimedOut = 8,     // `wait` only.
  kJobFailed = 10,
  kJobCancelled = 11,
  kVerificationFailed = 12,
  kInterrupted = 130,
};

ExitCode ExitCodeOf(const absl::Status& error);

// `error` with a google.rpc.ErrorInfo of p2ctl's own ("SERVER_UNAVAILABLE"), unless it has one.
absl::Status WithReason(absl::Status error, absl::string_view reason);

// INVALID_ARGUMENT with reason USAGE: what was typed is wrong, whatever a server holds.
absl::Status UsageError(absl::string_view message);

// "error: …" for people, with what the details add; never ends in a newline.
std::string ErrorText(const absl::Status& error);

// {"code":"NOT_FOUND","reason":"…","message":"…","details":[…]} on one line. `reason`: of the google.rpc.ErrorInfo if
// there is one, else the code. `details`: the google.rpc messages as proto JSON with "@type".
std::string ErrorJson(const absl::Status& error);

}  // namespace p2::ctl
