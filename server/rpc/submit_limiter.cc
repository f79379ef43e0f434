#include "server/rpc/submit_limiter.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "common/error_reason.h"

namespace p2::rpc {
namespace {

constexpr size_t kLookForIdle = 10'000;  // Buckets, before full ones are dropped.

}  // namespace

SubmitLimiter::SubmitLimiter(const Options& options, const Clock& clock) : options_(options), clock_(clock) {}

double SubmitLimiter::TokensAt(const Bucket& bucket, absl::Time now) const {
  return std::min<double>(options_.burst, bucket.tokens + options_.rate * absl::ToDoubleSeconds(now - bucket.as_of));
}

absl::Status SubmitLimiter::Take(absl::string_view user, int jobs) {
  if (options_.rate == 0) return absl::OkStatus();
  if (jobs > options_.burst) {
    return Error(ErrorReason::kRateLimited,
                 absl::StrCat(jobs, " jobs at once are more than p2d takes from one user (--submit-burst ",
                              options_.burst, "); submit fewer at a time"));
  }
  const absl::Time now = clock_.Monotonic();
  absl::MutexLock lock(&mutex_);
  if (buckets_.size() >= kLookForIdle) {
    absl::erase_if(buckets_, [&](const auto& entry) { return TokensAt(entry.second, now) >= options_.burst; });
  }
  Bucket& bucket = buckets_.try_emplace(user, Bucket{static_cast<double>(options_.burst), now}).first->second;
  bucket = {TokensAt(bucket, now), now};
  if (bucket.tokens < jobs) {
    const double wait = std::max(0.1, std::ceil((jobs - bucket.tokens) / options_.rate * 10) / 10);
    return Error(ErrorReason::kRateLimited,
                 absl::StrCat(user, " submits more than ", options_.rate, " jobs a second (--submit-rate, at most ",
                              options_.burst, " at once); try again in ", absl::FormatDuration(absl::Seconds(wait))));
  }
  bucket.tokens -= jobs;
  return absl::OkStatus();
}

}  // namespace p2::rpc
