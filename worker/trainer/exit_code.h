// How a trainer process ends (CLI.md, "Worker process codes") and how a Status carries that.
#pragma once

#include "absl/status/status.h"

namespace p2::trainer {

enum class ExitCode : int {
  kDone = 0,
  kStopped = 40,  // With a checkpoint.
  kComm = 50,     // A peer or the store left, or was frozen.
  kDevice = 51,   // CUDA error.
  kMemory = 52,
  kNumeric = 53,  // Numbers stay non-finite.
  kData = 54,
  kStorage = 55,  // A checkpoint cannot be written or read.
  kBadSpec = 64,
  kUnknown = 1,
};

// The same status, marked with the code that the process shall end with. OK stays OK.
absl::Status WithExit(ExitCode code, absl::Status status);

// The mark, or by the status' own code: UNAVAILABLE 50, RESOURCE_EXHAUSTED 52, INVALID_ARGUMENT, NOT_FOUND and
// FAILED_PRECONDITION 64, DATA_LOSS 54, OK 0, else 1.
ExitCode ExitCodeOf(const absl::Status& status);

}  // namespace p2::trainer
