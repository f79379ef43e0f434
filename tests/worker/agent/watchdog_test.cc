#include "worker/agent/watchdog.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::agent {
namespace {

using p2::trainer::v1::Progress;
using p2::trainer::v1::TrainerEvent;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const absl::Time kStart = absl::FromUnixSeconds(1000);

TrainerEvent At(Progress::Phase phase, uint64_t tick) {
  TrainerEvent event;
  event.mutable_progress()->set_phase(phase);
  event.mutable_progress()->set_tick(tick);
  return event;
}

class WatchdogTest : public ::testing::Test {
 protected:
  const Deadlines deadlines_ = ResolveDeadlines({}, 1.0, absl::Seconds(10));
  Watchdog watchdog_{deadlines_, {0, 1}, kStart};
};

TEST(ResolveDeadlinesTest, TakesDefaultsForWhatTheSpecLeavesOutAndScalesAll) {
  p2::v1::DeadlineSpec spec;
  spec.mutable_step()->set_seconds(7);
  spec.mutable_step()->set_nanos(500'000'000);
  const Deadlines deadlines = ResolveDeadlines(spec, 0.1, absl::ZeroDuration());
  EXPECT_EQ(deadlines.start, absl::Seconds(30));
  EXPECT_EQ(deadlines.step, absl::Milliseconds(750));
  EXPECT_EQ(deadlines.preview, absl::Seconds(12));
  EXPECT_EQ(deadlines.save, absl::Seconds(60));
  EXPECT_EQ(deadlines.stop, absl::Seconds(6));
  EXPECT_EQ(deadlines.silence, absl::InfiniteDuration()) << "0 switches it off";
  EXPECT_EQ(deadlines.fence_after, absl::InfiniteDuration());
  spec.mutable_fence_after()->set_seconds(20);
  EXPECT_EQ(ResolveDeadlines(spec, 0.1, absl::ZeroDuration()).fence_after, absl::Seconds(2));
}

TEST_F(WatchdogTest, GivesTheStartItsDeadlineEvenInSilence) {
  EXPECT_THAT(watchdog_.Check(kStart + absl::Seconds(299)), IsEmpty());
  EXPECT_THAT(watchdog_.Check(kStart + absl::Seconds(301)), SizeIs(2));
}

TEST_F(WatchdogTest, FreezesARankThatHeartbeatsWithoutAdvancing) {
  for (int s = 0; s <= 121; ++s) {
    watchdog_.OnEvent(0, At(Progress::STEP, 5), kStart + absl::Seconds(s));
    watchdog_.OnEvent(1, At(Progress::STEP, static_cast<uint64_t>(s)), kStart + absl::Seconds(s));
  }
  EXPECT_THAT(watchdog_.Check(kStart + absl::Seconds(120)), IsEmpty());
  const auto frozen = watchdog_.Check(kStart + absl::Seconds(121));
  ASSERT_THAT(frozen, SizeIs(1));
  EXPECT_EQ(frozen[0].rank, 0);
  EXPECT_THAT(frozen[0].why, HasSubstr("phase STEP for 2m"));
}

TEST_F(WatchdogTest, UsesTheDeadlineOfThePhaseTheRankIsIn) {
  for (int s = 0; s <= 590; ++s)
    for (const int32_t rank : {0, 1}) watchdog_.OnEvent(rank, At(Progress::SAVE, 1), kStart + absl::Seconds(s));
  EXPECT_THAT(watchdog_.Check(kStart + absl::Seconds(590)), IsEmpty()) << "a save may take 10 minutes";
}

TEST_F(WatchdogTest, FreezesAProcessThatFallsSilent) {
  watchdog_.OnEvent(0, At(Progress::STEP, 1), kStart + absl::Seconds(1));
  watchdog_.OnEvent(1, At(Progress::STEP, 1), kStart + absl::Seconds(1));
  for (int s = 2; s <= 12; ++s) watchdog_.OnEvent(1, At(Progress::STEP, 1), kStart + absl::Seconds(s));
  EXPECT_THAT(watchdog_.Check(kStart + absl::Seconds(11)), IsEmpty());
  const auto frozen = watchdog_.Check(kStart + absl::Seconds(12));
  ASSERT_THAT(frozen, SizeIs(1));
  EXPECT_EQ(frozen[0].rank, 0);
  EXPECT_THAT(frozen[0].why, HasSubstr("no sign of life"));
}

TEST_F(WatchdogTest, ForgetsARankThatHasEnded) {
  watchdog_.OnExit(0);
  EXPECT_THAT(watchdog_.Check(kStart + absl::Seconds(301)), SizeIs(1));
}

TEST_F(WatchdogTest, BlamesNobodyForAPauseOfTheAgent) {
  for (const int32_t rank : {0, 1}) watchdog_.OnEvent(rank, At(Progress::STEP, 1), kStart);
  watchdog_.Forgive(absl::Seconds(500));
  EXPECT_THAT(watchdog_.Check(kStart + absl::Seconds(505)), IsEmpty());
  EXPECT_THAT(watchdog_.Check(kStart + absl::Seconds(511)), SizeIs(2));
}

}  // namespace
}  // namespace p2::agent
