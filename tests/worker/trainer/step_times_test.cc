#include "worker/trainer/step_times.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace p2::trainer {
namespace {

using ::testing::DoubleEq;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

class HandClock : public Clock {
 public:
  absl::Time Now() const override { return now_; }
  absl::Time Monotonic() const override { return now_; }
  void Pass(int seconds) { now_ += absl::Seconds(seconds); }

 private:
  absl::Time now_ = absl::FromUnixSeconds(1000);
};

TEST(StepTimesTest, GivesMeansByPhaseThatAddUpToTheStep) {
  HandClock clock;
  StepTimes times(clock);
  for (int step = 0; step < 2; ++step) {
    clock.Pass(100);  // A checkpoint, say: no phase's.
    times.Begin();
    clock.Pass(1);
    times.End("data");
    clock.Pass(5);
    times.End("forward_backward");
    clock.Pass(2);
    times.End("optimizer");
  }
  EXPECT_THAT(
      times.Take(2, 9),
      UnorderedElementsAre(Pair("step_seconds_data", DoubleEq(1)), Pair("step_seconds_forward_backward", DoubleEq(5)),
                           Pair("step_seconds_optimizer", DoubleEq(2)), Pair("step_seconds_other", DoubleEq(1))));
  EXPECT_THAT(times.Take(2, 9), UnorderedElementsAre(Pair("step_seconds_other", DoubleEq(9)))) << "it began anew";
}

}  // namespace
}  // namespace p2::trainer
