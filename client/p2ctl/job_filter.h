// How people choose jobs by what they are.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "p2/v1/job.pb.h"

namespace p2::ctl {

// "RUNNING,queued"; nothing for "". Usage errors.
absl::StatusOr<std::vector<v1::Job::State>> ParseStates(absl::string_view text);

}  // namespace p2::ctl
