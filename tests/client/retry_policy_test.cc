#include "client/retry_policy.h"

#include <gtest/gtest.h>

namespace p2::client {
namespace {

TEST(BackoffTest, DoublesUpToItsMaximumWithinHalfAndWhole) {
  Backoff backoff(absl::Milliseconds(100), absl::Milliseconds(400));
  for (const int whole : {100, 200, 400, 400}) {
    const absl::Duration wait = backoff.Next();
    EXPECT_GE(wait, absl::Milliseconds(whole) / 2);
    EXPECT_LE(wait, absl::Milliseconds(whole));
  }
  backoff.Reset();
  EXPECT_LE(backoff.Next(), absl::Milliseconds(100));
}

TEST(RetryPolicyTest, RepeatsOnlyLostConnections) {
  const auto repeats = [](const absl::Status& failure) {
    return RetryPolicy(2, Backoff(absl::Milliseconds(1), absl::Milliseconds(1)))
        .NextWait(failure, absl::Seconds(1))
        .has_value();
  };
  EXPECT_TRUE(repeats(absl::UnavailableError("gone")));
  EXPECT_TRUE(repeats(absl::InternalError("Received RST_STREAM with error code 2")));
  EXPECT_FALSE(repeats(absl::InternalError("a bug")));
  EXPECT_FALSE(repeats(absl::InvalidArgumentError("bad")));
  EXPECT_FALSE(repeats(absl::AbortedError("etag")));
}

TEST(RetryPolicyTest, StopsAfterItsAttempts) {
  RetryPolicy policy(3, Backoff(absl::Milliseconds(1), absl::Milliseconds(1)));
  EXPECT_TRUE(policy.NextWait(absl::UnavailableError(""), absl::Seconds(1)).has_value());
  EXPECT_TRUE(policy.NextWait(absl::UnavailableError(""), absl::Seconds(1)).has_value());
  EXPECT_FALSE(policy.NextWait(absl::UnavailableError(""), absl::Seconds(1)).has_value());
}

TEST(RetryPolicyTest, DoesNotWaitPastTheDeadline) {
  RetryPolicy policy(3, Backoff(absl::Seconds(1), absl::Seconds(1)));
  EXPECT_FALSE(policy.NextWait(absl::UnavailableError(""), absl::Milliseconds(400)).has_value());
}

}  // namespace
}  // namespace p2::client
