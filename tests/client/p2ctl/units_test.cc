#include "client/p2ctl/units.h"

#include <gtest/gtest.h>

#include "client/p2ctl/wait_condition.h"

namespace p2::ctl {
namespace {

TEST(UnitsTest, ReadsDurations) {
  EXPECT_EQ(*ParseDuration("90s"), absl::Seconds(90));
  EXPECT_EQ(*ParseDuration("2h"), absl::Hours(2));
  EXPECT_EQ(*ParseDuration("3d"), absl::Hours(72));
  EXPECT_EQ(*ParseDuration("1d12h"), absl::Hours(36));
  EXPECT_EQ(*ParseDuration("500ms"), absl::Milliseconds(500));
  for (const char* wrong : {"", "5", "-3s", "3x", "d", "0s", "1d-2h"}) EXPECT_FALSE(ParseDuration(wrong).ok()) << wrong;
}

TEST(UnitsTest, ReadsCounts) {
  EXPECT_EQ(*ParseCount("1500"), 1500);
  EXPECT_EQ(*ParseCount("500k"), 500'000);
  EXPECT_EQ(*ParseCount("10M"), 10'000'000);
  EXPECT_EQ(*ParseCount("1.5M"), 1'500'000);
  for (const char* wrong : {"", "k", "-1", "1.5", "1e6", "10 k", "nan", "99999999999999G"})
    EXPECT_FALSE(ParseCount(wrong).ok()) << wrong;
}

TEST(UnitsTest, ReadsSince) {
  const absl::Time now = absl::FromUnixSeconds(1'000'000);
  EXPECT_EQ(*ParseSince("1h", now), now - absl::Hours(1));
  EXPECT_EQ(*ParseSince("1970-01-01T00:00:05Z", now), absl::FromUnixSeconds(5));
  EXPECT_FALSE(ParseSince("yesterday", now).ok());
}

TEST(UnitsTest, WritesForPeople) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1,000");
  EXPECT_EQ(FormatCount(-1234567), "-1,234,567");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatRate(0.254), "0.25");
  EXPECT_EQ(FormatRate(112.46), "112.5");
  EXPECT_EQ(FormatRate(71440.2), "71,440");
  EXPECT_EQ(FormatShortDuration(absl::Milliseconds(50)), "50ms");
  EXPECT_EQ(FormatShortDuration(absl::Seconds(88)), "1m28s");
  EXPECT_EQ(FormatShortDuration(absl::Hours(52)), "2d04h");
  EXPECT_EQ(FormatShortDuration(absl::InfiniteDuration()), "-");
}

using Result = WaitCondition::Result;

v1::Job JobIn(v1::Job::State state, int64_t images = 0) {
  v1::Job job;
  job.set_state(state);
  job.mutable_progress()->set_images_seen(images);
  return job;
}

TEST(WaitConditionTest, KnowsWhenItIsMetAndWhenItNeverWillBe) {
  const WaitCondition running = *WaitCondition::Parse("running");
  EXPECT_EQ(running.Check(JobIn(v1::Job::QUEUED), {}), Result::kPending);
  EXPECT_EQ(running.Check(JobIn(v1::Job::RUNNING), {}), Result::kMet);
  EXPECT_EQ(running.Check(JobIn(v1::Job::SUCCEEDED), {}), Result::kMet);
  EXPECT_EQ(running.Check(JobIn(v1::Job::FAILED), {}), Result::kImpossible);
  const WaitCondition images = *WaitCondition::Parse("images=500k");
  EXPECT_EQ(images.Check(JobIn(v1::Job::RUNNING, 499'999), {}), Result::kPending);
  EXPECT_EQ(images.Check(JobIn(v1::Job::SUCCEEDED, 500'000), {}), Result::kMet);
  const WaitCondition metric = *WaitCondition::Parse("metric:kid<=0.05");
  EXPECT_EQ(metric.metric(), "kid");
  EXPECT_EQ(metric.Check(JobIn(v1::Job::RUNNING), {0.1}), Result::kPending);
  EXPECT_EQ(metric.Check(JobIn(v1::Job::RUNNING), {0.1, 0.05, 0.2}), Result::kMet);
  EXPECT_EQ(WaitCondition::Parse("metric:fid>=1")->Check(JobIn(v1::Job::RUNNING), {1}), Result::kMet);
  EXPECT_EQ(WaitCondition::Parse("metric:fid<1")->Check(JobIn(v1::Job::SUCCEEDED), {1}), Result::kImpossible);
}

TEST(WaitConditionTest, RefusesWhatItCannotRead) {
  for (const char* wrong :
       {"", "soon", "images=many", "metric:loss", "metric:<=1", "metric:loss<=low", "STATE_UNSPECIFIED"}) {
    EXPECT_FALSE(WaitCondition::Parse(wrong).ok()) << wrong;
  }
}

}  // namespace
}  // namespace p2::ctl
