#include "client/p2ctl/wait_condition.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "client/p2ctl/errors.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {

absl::StatusOr<WaitCondition> WaitCondition::Parse(absl::string_view text) {
  WaitCondition condition;
  condition.text_ = std::string(text);
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "images=")) {
    P2_ASSIGN_OR_RETURN(condition.images_, ParseCount(rest));
    return condition;
  }
  if (absl::ConsumePrefix(&rest, "metric:")) {
    const size_t at = rest.find_first_of("<>");
    if (at != absl::string_view::npos && at > 0) {
      condition.metric_ = std::string(rest.substr(0, at));
      condition.comparison_ = std::string(rest.substr(at, absl::StartsWith(rest.substr(at + 1), "=") ? 2 : 1));
      if (absl::SimpleAtod(rest.substr(at + condition.comparison_.size()), &condition.bound_)) return condition;
    }
    return UsageError(absl::StrCat("--for \"", text, "\": write metric:NAME<=NUMBER (or <, >=, >)"));
  }
  v1::Job::State state;
  if (text == "done") return condition;
  if (v1::Job::State_Parse(absl::AsciiStrToUpper(text), &state) && state != v1::Job::STATE_UNSPECIFIED) {
    condition.state_ = state;
    return condition;
  }
  return UsageError(absl::StrCat(
      "--for \"", text,
      "\" is unknown; write done, a state (RUNNING, PAUSED, SUCCEEDED …), images=500k or metric:loss<=0.05"));
}

bool WaitCondition::Holds(double value) const {
  if (comparison_ == "<=") return value <= bound_;
  if (comparison_ == "<") return value < bound_;
  if (comparison_ == ">=") return value >= bound_;
  return value > bound_;
}

std::string WaitCondition::NeverBecause(const v1::Job& job) const {
  const int64_t total = job.progress().images_total();
  if (images_.has_value() && total > 0 && *images_ > total) {
    return absl::StrCat("it ends at ", FormatCount(total), " images");
  }
  const bool towards_end = state_ == v1::Job::CANCELLING || state_ == v1::Job::CANCELLED;
  if (state_.has_value() && job.state() == v1::Job::CANCELLING && !towards_end) return "it is CANCELLING";
  return "";
}

WaitCondition::Result WaitCondition::Check(const v1::Job& job, const std::vector<double>& values) const {
  const bool ended = IsTerminal(job.state());
  bool met = false;
  if (state_.has_value()) {
    met = job.state() == *state_ || (*state_ == v1::Job::RUNNING && job.state() == v1::Job::SUCCEEDED);
  } else if (images_.has_value()) {
    met = job.progress().images_seen() >= *images_;
  } else if (!metric_.empty()) {
    met = std::any_of(values.begin(), values.end(), [this](double value) { return Holds(value); });
  } else {
    met = ended;
  }
  if (met) return Result::kMet;
  return ended ? Result::kImpossible : Result::kPending;
}

}  // namespace p2::ctl
