// The simulated world (simulation/) in small, with its end: once nothing more goes wrong, every job ends.
#include <iostream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/scheduler/simulation/walk.h"
#include "tests/server/scheduler/simulation/world.h"

namespace p2::scheduler {

void PrintTo(const Violation& violation, std::ostream* out) { *out << violation.invariant << ": " << violation.what; }

namespace {

constexpr int64_t kEvents = 100'000;

class RandomWalkTest : public testing::TestWithParam<uint64_t> {
 protected:
  static void Walk(World& world, int64_t events) {
    const WorldOptions size;
    const class Walk walk(GetParam(), size.nodes, size.jobs);
    for (int64_t i = 0; world.events() < events && world.Perform(walk.At(i)); ++i) {
    }
    world.Finish();
    if (world.violations().empty()) world.Heal(GetParam());
    world.Finish();
  }
};

TEST_P(RandomWalkTest, NeverBreaksWhatMustNeverBreak) {
  World world({});
  Walk(world, kEvents);
  EXPECT_THAT(world.violations(), testing::IsEmpty());
  // The walk went through all of it.
  const auto counts = world.Counts();
  for (const char* happened :
       {"action DeletePath", "checkpoint", "crash", "event WorkerConnected", "exit 0", "exit 137", "exit 40", "exit 53",
        "fallback", "lie", "p2d restarted", "refused", "repeated request", "started"}) {
    EXPECT_GT(counts.count(happened), 0u) << happened;
  }
  for (const auto& [what, count] : counts) std::cout << "  " << what << ": " << count << "\n";
}

TEST_P(RandomWalkTest, AJobThatOnlyEverFailsComesToAnEnd) {
  World world({.poison = true});
  Walk(world, kEvents / 5);
  EXPECT_THAT(world.violations(), testing::IsEmpty());
  const auto counts = world.Counts();
  EXPECT_EQ(counts.count("checkpoint"), 0u);
  EXPECT_GT(counts.at("exit 50"), 50);
  EXPECT_GT(counts.at("exit 51"), 50);
}

// No job of its own priority, whenever it comes, puts off the start that was predicted for the head of the queue.
TEST_P(RandomWalkTest, WhatIsPredictedComesTrueInACalmWorld) {
  const WorldOptions calm{.nodes = 6, .jobs = 20, .calm = true};
  World world(calm);
  const class Walk walk(GetParam(), calm.nodes, calm.jobs, /*calm=*/true);
  for (int64_t i = 0; world.events() < kEvents && world.Perform(walk.At(i)); ++i) {
  }
  world.Finish();
  EXPECT_THAT(world.violations(), testing::IsEmpty());
  EXPECT_GT(world.Counts().at("started as predicted"), 100);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomWalkTest, testing::Values(1, 20261123));

}  // namespace
}  // namespace p2::scheduler
