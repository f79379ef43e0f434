#include "server/rpc/submit_limiter.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::rpc {
namespace {

using ::testing::HasSubstr;

class HandClock final : public Clock {
 public:
  absl::Time Now() const override { return now; }
  absl::Time Monotonic() const override { return now; }
  absl::Time now = absl::FromUnixSeconds(1000);
};

class SubmitLimiterTest : public ::testing::Test {
 protected:
  HandClock clock_;
  SubmitLimiter limiter_{{.rate = 10, .burst = 100}, clock_};
};

TEST_F(SubmitLimiterTest, TakesABurstThenTheRate) {
  EXPECT_TRUE(limiter_.Take("user:ann", 60).ok());
  EXPECT_TRUE(limiter_.Take("user:ann", 40).ok());
  const absl::Status refused = limiter_.Take("user:ann", 5);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("user:ann submits more than 10 jobs a second"));
  EXPECT_THAT(std::string(refused.message()), HasSubstr("try again in 500ms"));
  clock_.now += absl::Milliseconds(500);
  EXPECT_TRUE(limiter_.Take("user:ann", 5).ok()) << "what was refused was not counted";
  EXPECT_FALSE(limiter_.Take("user:ann", 1).ok());
}

TEST_F(SubmitLimiterTest, IsForEachUserAlone) {
  EXPECT_TRUE(limiter_.Take("user:ann", 100).ok());
  EXPECT_TRUE(limiter_.Take("user:bob", 100).ok());
}

TEST_F(SubmitLimiterTest, SavesNoMoreThanABurst) {
  EXPECT_TRUE(limiter_.Take("user:ann", 1).ok());
  clock_.now += absl::Hours(24);
  EXPECT_TRUE(limiter_.Take("user:ann", 100).ok());
  EXPECT_FALSE(limiter_.Take("user:ann", 1).ok());
}

TEST_F(SubmitLimiterTest, RefusesWhatNeverFits) {
  EXPECT_THAT(std::string(limiter_.Take("user:ann", 101).message()), HasSubstr("submit fewer at a time"));
}

TEST_F(SubmitLimiterTest, ManyUsersDoNotLiftTheLimitOfOne) {
  EXPECT_TRUE(limiter_.Take("user:ann", 100).ok());
  for (int i = 0; i < 30'000; ++i) EXPECT_TRUE(limiter_.Take(absl::StrCat("user:", i), 1).ok());
  EXPECT_FALSE(limiter_.Take("user:ann", 1).ok());
}

TEST(SubmitLimiterOffTest, ARateOfZeroIsNoLimit) {
  HandClock clock;
  SubmitLimiter limiter({.rate = 0, .burst = 1}, clock);
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(limiter.Take("user:ann", 1000).ok());
}

}  // namespace
}  // namespace p2::rpc
