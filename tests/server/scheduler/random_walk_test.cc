#include <iostream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/scheduler/simulation.h"

namespace p2::scheduler {
namespace {

constexpr int kEvents = 100'000;
constexpr int kCompareEvery = 500;

class RandomWalkTest : public testing::TestWithParam<uint64_t> {};

TEST_P(RandomWalkTest, NeverBreaksWhatMustNeverBreak) {
  Simulation simulation(GetParam());
  for (int i = 0; i < kEvents; ++i) {
    if (!simulation.RandomStep()) break;
    if (i % kCompareEvery == 0) simulation.CompareWithStore();
  }
  simulation.Heal();
  simulation.CompareWithStore();
  EXPECT_THAT(simulation.violations(), testing::IsEmpty());
  // The walk went through all of it.
  for (const char* happened : {"checkpoint", "connected", "crash", "delete", "exit 0", "exit 137", "exit 40", "exit 53",
                               "lie", "p2d restarted", "refused", "started"}) {
    EXPECT_GT(simulation.counts().count(happened), 0u) << happened;
  }
  for (const auto& [what, count] : simulation.counts()) std::cout << "  " << what << ": " << count << "\n";
}

TEST_P(RandomWalkTest, AJobThatOnlyEverFailsComesToAnEnd) {
  Simulation simulation(GetParam());
  simulation.Poison();
  for (int i = 0; i < kEvents / 5; ++i) {
    if (!simulation.RandomStep()) break;
  }
  simulation.Heal();
  EXPECT_THAT(simulation.violations(), testing::IsEmpty());
  EXPECT_EQ(simulation.counts().count("checkpoint"), 0u);
  EXPECT_GT(simulation.counts().at("exit 50"), 50);
  EXPECT_GT(simulation.counts().at("exit 51"), 50);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomWalkTest, testing::Values(1, 20261123));

}  // namespace
}  // namespace p2::scheduler
