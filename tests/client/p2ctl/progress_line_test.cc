#include "client/p2ctl/progress_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace p2::ctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

ProgressState State() {
  ProgressState state;
  state.label = "mnist-demo-abcde";
  state.phase = "RUNNING";
  state.done = 8100;
  state.total = 18000;
  state.per_second = 112.5;
  state.losses = {0.9, 0.5, 0.2, 0.1, 0.0532};
  state.eta = absl::Seconds(88);
  return state;
}

long Columns(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

TEST(RenderProgressTest, ShowsEverythingWhereThereIsRoom) {
  EXPECT_EQ(RenderProgress(State(), 140),
            "mnist-demo-abcde RUNNING [█████████████▌                ]  45% 8,100/18,000 images 112.5 images/s loss "
            "0.0532 █▇▄▃▁ ETA 1m28s");
}

TEST(RenderProgressTest, NeverExceedsTheWidth) {
  for (int width = 0; width <= 200; ++width) {
    EXPECT_LE(Columns(RenderProgress(State(), width)), width) << width;
  }
}

TEST(RenderProgressTest, ShowsEveryPartAtEightyColumnsBeforeTheNameOfTheJob) {
  ProgressState state = State();
  state.label = "ffhq-gamma0.5-abcde";
  state.done = 3512;
  state.total = 20000;
  state.per_second = 218.4;
  state.losses = {0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05321};
  state.eta = absl::Seconds(37 * 60 + 5);
  EXPECT_EQ(RenderProgress(state, 60), "RUNNING [██▏         ]  17% 3.5k/20k loss 0.05321 ETA 37m05s");
  EXPECT_EQ(RenderProgress(state, 72), "RUNNING [█▋       ]  17% 3.5k/20k 218/s loss 0.05321 ██▇▆▆▅▃▁ ETA 37m05s");
  EXPECT_EQ(RenderProgress(state, 77), "RUNNING [██▏         ]  17% 3.5k/20k 218/s loss 0.05321 ██▇▇▇▆▅▄▃▁ ETA 37m05s");
  EXPECT_EQ(RenderProgress(state, 80),
            "RUNNING [██▋            ]  17% 3.5k/20k 218/s loss 0.05321 ██▇▇▇▆▅▄▃▁ ETA 37m05s");
  EXPECT_EQ(RenderProgress(state, 100),
            "ffhq-gamma0.5-abcde RUNNING [██▋            ]  17% 3.5k/20k 218/s loss 0.05321 ██▇▇▇▆▅▄▃▁ ETA 37m05s");
  EXPECT_EQ(RenderProgress(state, 120),
            "ffhq-gamma0.5-abcde RUNNING [██▋            ]  17% 3,512/20,000 images 218.4 images/s loss 0.05321 "
            "██▇▇▇▆▅▄▃▁ ETA 37m05s");
}

TEST(RenderProgressTest, WritesLargeCountsShort) {
  ProgressState state = State();
  state.done = 9'999'999;
  state.total = 10'000'000;
  state.per_second = 71'440;
  EXPECT_THAT(RenderProgress(state, 70), HasSubstr(" 9.9M/10M 71.4k/s "));
  state.done = 117'200;
  state.total = 999;
  state.per_second = 8.44;
  EXPECT_THAT(RenderProgress(state, 60), HasSubstr(" 117k/999 8.4/s "));
}

TEST(RenderProgressTest, LeavesOutTheLeastTellingFirst) {
  const std::string narrow = RenderProgress(State(), 80);
  EXPECT_THAT(narrow, StartsWith("RUNNING ["));
  EXPECT_THAT(narrow, HasSubstr("loss 0.0532"));
  EXPECT_EQ(RenderProgress(State(), 30), "RUNNING  45% ETA 1m28s");
}

TEST(RenderProgressTest, StandsBeforeAnythingIsKnown) {
  ProgressState state;
  state.label = "a";
  state.phase = "QUEUED";
  EXPECT_EQ(RenderProgress(state, 60), "a QUEUED [                              ]   0% 0/0 images");
}

TEST(BarTest, FillsInEighths) {
  EXPECT_EQ(Bar(0, 4), "    ");
  EXPECT_EQ(Bar(0.5, 4), "██  ");
  EXPECT_EQ(Bar(0.53125, 4), "██▏ ");
  EXPECT_EQ(Bar(1, 4), "████");
  EXPECT_EQ(Bar(7, 4), "████");
}

TEST(SparklineTest, StretchesTheNewestValuesOverItsHeights) {
  EXPECT_EQ(Sparkline({0, 1, 2, 3, 4, 5, 6, 7}, 8), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(Sparkline({100, 0, 7}, 2), "▁█");
  EXPECT_EQ(Sparkline({1, 0.1, 0.01}, 4), "█▅▁");
  EXPECT_EQ(Sparkline({3, 3}, 4), "▅▅");
  EXPECT_EQ(Sparkline({0, NAN, 1}, 4), "▁ █");
  EXPECT_EQ(Sparkline({}, 4), "");
}

class PipeTest : public ::testing::Test {
 protected:
  PipeTest() { EXPECT_EQ(pipe(fds_), 0); }
  std::string Written() {
    close(fds_[1]);
    char buffer[4096];
    const ssize_t got = read(fds_[0], buffer, sizeof(buffer));
    close(fds_[0]);
    return std::string(buffer, static_cast<size_t>(std::max<ssize_t>(got, 0)));
  }
  int fds_[2];
};

TEST_F(PipeTest, PlainLinesComeAtMostOncePerIntervalElsewhere) {
  const absl::Time start = absl::UnixEpoch();
  {
    ProgressLine line(fds_[1], absl::Seconds(5));
    line.Update(State(), start);
    line.Update(State(), start + absl::Seconds(4));
    line.Update(State(), start + absl::Seconds(5));
    line.Update(State(), start + absl::Seconds(6), /*force=*/true);
  }
  const std::string line = "mnist-demo-abcde RUNNING  45% 8,100/18,000 images 112.5 images/s loss 0.0532 ETA 1m28s\n";
  EXPECT_EQ(Written(), line + line + line);
}

}  // namespace
}  // namespace p2::ctl
