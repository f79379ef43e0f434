#include "client/p2ctl/job_filter.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/p2ctl/errors.h"

namespace p2::ctl {

absl::StatusOr<std::vector<v1::Job::State>> ParseStates(absl::string_view text) {
  std::vector<v1::Job::State> states;
  for (absl::string_view name : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    v1::Job::State state;
    if (!v1::Job::State_Parse(absl::AsciiStrToUpper(name), &state) || state == v1::Job::STATE_UNSPECIFIED) {
      return UsageError(absl::StrCat("--state \"", name,
                                     "\" is no state; QUEUED, STARTING, RUNNING, PAUSING, "
                                     "PAUSED, CANCELLING, CANCELLED, SUCCEEDED or FAILED"));
    }
    states.push_back(state);
  }
  return states;
}

}  // namespace p2::ctl
