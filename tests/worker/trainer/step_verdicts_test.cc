#include "worker/trainer/step_verdicts.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace p2::trainer {
namespace {

using ::testing::ElementsAre;

TEST(StepVerdictsTest, JudgesStepsInOrder) {
  StepVerdicts verdicts;
  verdicts.Push({0, 8}, at::zeros({}));
  verdicts.Push({8, 16}, at::ones({}));
  EXPECT_FALSE(verdicts.Pop()->bad);
  const auto second = verdicts.Pop();
  EXPECT_TRUE(second->bad);
  EXPECT_EQ(second->samples.begin, 8);
  EXPECT_FALSE(verdicts.Pop().has_value());
}

TEST(AddSkippedTest, JoinsNeighboursAndKeepsOrder) {
  std::vector<checkpoint::SampleRange> all{{20, 30}};
  AddSkipped({{40, 50}, {0, 8}, {8, 16}, {25, 35}}, &all);
  EXPECT_THAT(all, ElementsAre(checkpoint::SampleRange{0, 16}, checkpoint::SampleRange{20, 35},
                               checkpoint::SampleRange{40, 50}));
}

}  // namespace
}  // namespace p2::trainer
