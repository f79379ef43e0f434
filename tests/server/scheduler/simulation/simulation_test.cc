#include "tests/server/scheduler/simulation/simulation.h"

#include <algorithm>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::scheduler {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

SimulationReport Walked(uint64_t seed) {
  SimulationOptions options;
  options.seed = seed;
  options.events = 5000;
  return Simulate(options);
}

TEST(SimulationTest, TheSameSeedGivesTheSameTraceHash) {
  std::set<uint64_t> hashes;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const SimulationReport report = Walked(seed);
    EXPECT_EQ(report.trace_hash, Walked(seed).trace_hash) << "seed " << seed;
    EXPECT_GE(report.events, 5000);
    hashes.insert(report.trace_hash);
  }
  EXPECT_THAT(hashes, SizeIs(10));
}

TEST(SimulationTest, AListOfDecisionsIsPlayedAsItWasWalked) {
  const WorldOptions options;
  const Walk walk(7, options.nodes, options.jobs);
  std::vector<Decision> decisions;
  World world(options);
  for (int i = 0; i < 3000; ++i) {
    decisions.push_back(walk.At(i));
    world.Perform(decisions.back());
  }
  std::vector<std::string> first, second;
  EXPECT_THAT(Replay(options, decisions, &first), IsEmpty());
  EXPECT_THAT(Replay(options, decisions, &second), IsEmpty());
  EXPECT_EQ(first, second);
  EXPECT_THAT(first, testing::Contains(HasSubstr("=> StartGang ")));
}

TEST(SimulationTest, ShrinkingFindsTheDecisionsThatMatter) {
  std::vector<Decision> decisions;
  for (uint64_t i = 0; i < 5000; ++i) decisions.push_back({DecisionKind::kWork, i});
  // It fails once 17, 1234 and 4321 were all there.
  const auto fails_after = [](const std::vector<Decision>& list) -> size_t {
    size_t seen = 0;
    for (size_t i = 0; i < list.size(); ++i) {
      seen += list[i].draw == 17 || list[i].draw == 1234 || list[i].draw == 4321;
      if (seen == 3) return i + 1;
    }
    return 0;
  };
  std::vector<uint64_t> left;
  for (const Decision& decision : Shrink(decisions, fails_after, absl::Seconds(60))) left.push_back(decision.draw);
  EXPECT_THAT(left, testing::ElementsAre(17, 1234, 4321));
}

}  // namespace
}  // namespace p2::scheduler
