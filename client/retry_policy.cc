#include "client/retry_policy.h"

#include <algorithm>

#include "absl/random/uniform_real_distribution.h"
#include "absl/strings/match.h"

namespace p2::client {

bool IsConnectionLost(const absl::Status& status) {
  return absl::IsUnavailable(status) || (absl::IsInternal(status) && absl::StrContains(status.message(), "RST_STREAM"));
}

absl::Duration Backoff::Next() {
  const absl::Duration wait = next_ * absl::Uniform(absl::IntervalClosed, random_, 0.5, 1.0);
  next_ = std::min(next_ * 2, max_);
  return wait;
}

std::optional<absl::Duration> RetryPolicy::NextWait(const absl::Status& failure, absl::Duration time_left) {
  if (!IsConnectionLost(failure) || --attempts_left_ <= 0) return std::nullopt;
  const absl::Duration wait = backoff_.Next();
  if (wait >= time_left) return std::nullopt;
  return wait;
}

}  // namespace p2::client
