#include "common/spec/snr_bins.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/spec/noise_schedule.h"

namespace p2::spec {
namespace {

TEST(SnrBinsTest, PutsTheStagesOfThePaperOnBorders) {
  EXPECT_EQ(SnrBin(1e-2 * 0.999), 5);
  EXPECT_EQ(SnrBin(1e-2 * 1.001), 6);
  EXPECT_EQ(SnrBin(0.999), 11);
  EXPECT_EQ(SnrBin(1.001), 12);
}

TEST(SnrBinsTest, KeepsWhatLiesBeyondEitherEnd) {
  EXPECT_EQ(SnrBin(1e-9), 0);
  EXPECT_EQ(SnrBin(1e9), 23);
  EXPECT_EQ(SnrBin(0), 0);
}

TEST(SnrBinsTest, FallsWithTheTimestepOverTheWholeRange) {
  const auto schedule = MakeNoiseSchedule(ScheduleKind::kLinear, 1000);
  const std::vector<int64_t> bins = SnrBinTable(schedule->snr);
  EXPECT_EQ(bins.front(), 23);
  EXPECT_EQ(bins.back(), 0);
  for (size_t t = 1; t < bins.size(); ++t) EXPECT_LE(bins[t], bins[t - 1]);
}

TEST(SnrBinsTest, ABinBeginsWhereItsNeighbourEnds) {
  for (int bin = 0; bin < kSnrBins; ++bin) {
    EXPECT_EQ(SnrBin(SnrBinLow(bin) * 1.0001), bin);
    EXPECT_EQ(SnrBin(SnrBinLow(bin + 1) * 0.9999), bin);
    EXPECT_EQ(StageOfBin(bin), StageOf(SnrBinLow(bin) * 1.0001));
  }
}

TEST(SnrBinsTest, NamesBinsByTwoDigits) { EXPECT_EQ(SnrBinName("loss_snr_", 7), "loss_snr_07"); }

}  // namespace
}  // namespace p2::spec
