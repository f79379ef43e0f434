// How many jobs one user may make in a while, so that a runaway script costs nobody else their answers.
#pragma once

#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/clock.h"

namespace p2::rpc {

// A token bucket for each user. Thread-safe. Users who have not submitted for a while cost no memory.
class SubmitLimiter {
 public:
  struct Options {
    // Jobs a second in the long run; 0: no limit.
    int rate = 1000;
    // Jobs at once. REQUIRES: >= 1.
    int burst = 20'000;
  };
  SubmitLimiter(const Options& options, const Clock& clock);

  // Counts `jobs` new jobs of `user`. RESOURCE_EXHAUSTED (RATE_LIMITED), and nothing is counted: there would be too
  // many; the message says when there may be as many.
  absl::Status Take(absl::string_view user, int jobs);

 private:
  struct Bucket {
    double tokens = 0;
    absl::Time as_of;
  };
  double TokensAt(const Bucket& bucket, absl::Time now) const;

  const Options options_;
  const Clock& clock_;
  absl::Mutex mutex_;
  absl::flat_hash_map<std::string, Bucket> buckets_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::rpc
