#include "common/spec/reconstruction.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(NearestSnrTest, ComparesLogarithmsAndIsExactAtTheScheduleItself) {
  const auto schedule = *MakeNoiseSchedule(ScheduleKind::kLinear, 1000);
  for (const int t : {0, 1, 300, 998, 999}) EXPECT_EQ(*NearestSnr(schedule, schedule.snr[static_cast<size_t>(t)]), t);
  EXPECT_EQ(*NearestSnr(schedule, 1e30), 0);
  EXPECT_EQ(*NearestSnr(schedule, 1e-30), 999);
  const double middle = std::sqrt(schedule.snr[500] * schedule.snr[501]);
  EXPECT_EQ(*NearestSnr(schedule, middle * 1.0001), 500);
  EXPECT_EQ(*NearestSnr(schedule, middle * 0.9999), 501);
  for (const double bad : {0.0, -1.0, std::nan("")}) EXPECT_FALSE(NearestSnr(schedule, bad).ok());
}

TEST(SpacedIndexTest, NamesTheNearestKeptTimestep) {
  const auto spaced = *MakeSpacedSchedule(*MakeNoiseSchedule(ScheduleKind::kLinear, 1000), "ddim10");
  EXPECT_EQ(*SpacedIndex(spaced, 300), 3);
  EXPECT_NE(SpacedIndex(spaced, 310).status().message().find("nearest is 300"), std::string::npos);
}

TEST(ReconstructionTimestepsTest, KeepsTheOrderAndNamesNoneTwice) {
  const auto spaced = *MakeSpacedSchedule(*MakeNoiseSchedule(ScheduleKind::kLinear, 1000), "ddim10");
  EXPECT_THAT(*ReconstructionTimesteps(spaced, {900, 0}, {1e-30, 1e30, spaced.schedule.snr[4]}), ElementsAre(9, 0, 4));
  EXPECT_THAT(*ReconstructionTimesteps(spaced, {}, {}), ElementsAre());
  EXPECT_THAT(ReconstructionTimesteps(spaced, {0, 999}, {1}).status().message(), HasSubstr("timestep 999 is not"));
  EXPECT_THAT(ReconstructionTimesteps(spaced, {std::numeric_limits<int>::min()}, {}).status().message(),
              HasSubstr("nearest is 0"));
  EXPECT_THAT(ReconstructionTimesteps(spaced, {0}, {1, -1}).status().message(), HasSubstr("SNR -1 must be"));
}

}  // namespace
}  // namespace p2::spec
