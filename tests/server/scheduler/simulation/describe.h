// Events, decisions and actions in words, for the list of a shrunk run.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/scheduler/step.h"

namespace p2::scheduler {

// By index in the variant: `CreateJob`, `SpoolReport`; `Prepare`.
absl::string_view EventName(size_t index);
absl::string_view ActionName(size_t index);

// `+12.300s PrepareReply w3 job-4 epoch 2: ok`, then one indented line for each move of a job and each action.
std::vector<std::string> Describe(const Event& event, const absl::StatusOr<StepResult>& result, const Moment& now);

}  // namespace p2::scheduler
