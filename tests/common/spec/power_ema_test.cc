#include "common/spec/power_ema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace p2::spec {
namespace {

// The shares of updates 1..n, by their closed form.
std::vector<double> Shares(const PowerEma& ema, int64_t n) {
  std::vector<double> shares(static_cast<size_t>(n), 0.0);
  const auto part = [&](int64_t i) {
    return std::pow(static_cast<double>(i) / static_cast<double>(ema.updates), ema.gamma + 1);
  };
  for (int64_t i = 1; i <= ema.updates; ++i) shares[static_cast<size_t>(i - 1)] = part(i) - part(i - 1);
  return shares;
}

// |sum of the stored shares - wanted| / |wanted|, summed update by update.
double TrueResidual(const std::vector<PowerEma>& stored, const PowerEma& wanted, const std::vector<double>& x) {
  int64_t n = wanted.updates;
  for (const PowerEma& ema : stored) n = std::max(n, ema.updates);
  std::vector<double> error = Shares(wanted, n);
  double square = 0, rest = 0;
  for (const double share : error) square += share * share;
  for (size_t i = 0; i < stored.size(); ++i) {
    const std::vector<double> shares = Shares(stored[i], n);
    for (size_t u = 0; u < shares.size(); ++u) error[u] -= x[i] * shares[u];
  }
  for (const double e : error) rest += e * e;
  return std::sqrt(rest / square);
}

std::vector<PowerEma> TwoProfiles(int64_t every, int64_t last) {
  std::vector<PowerEma> stored;
  for (int64_t n = every; n <= last; n += every) {
    for (const double sigma_rel : {0.05, 0.10}) stored.push_back({PowerEmaGamma(sigma_rel), n});
  }
  return stored;
}

TEST(PowerEmaTest, GammaSolvesThePapersCubic) {
  // numpy.roots([1, 7, 16 - sigma_rel**-2, 12 - sigma_rel**-2]).real.max(), as the paper's code has it.
  EXPECT_NEAR(PowerEmaGamma(0.05), 16.97, 0.005);  // The paper's table: 0.05 is gamma 16.97, 0.10 is 6.94.
  EXPECT_NEAR(PowerEmaGamma(0.10), 6.94, 0.005);
  for (const double sigma : {kLeastSigmaRel, 0.01, 0.05, 0.1, 0.2, kMostSigmaRel}) {
    const double g = PowerEmaGamma(sigma), s = 1 / (sigma * sigma);
    EXPECT_GE(g, 0);
    EXPECT_NEAR((((g + 7) * g + (16 - s)) * g + (12 - s)) / (s * (g + 1)), 0, 1e-11) << sigma;
  }
}

TEST(PowerEmaTest, SigmaRelIsTheSpreadOfTheShares) {
  const std::vector<double> shares = Shares({PowerEmaGamma(0.1), 20'000}, 20'000);
  double mean = 0, square = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    const double t = (static_cast<double>(i) + 0.5) / 20'000;
    mean += shares[i] * t;
    square += shares[i] * t * t;
  }
  EXPECT_NEAR(std::sqrt(square - mean * mean), 0.1, 1e-6);
}

TEST(SnapshotStrideTest, KeepsAtMostSoManyAndTheEnd) {
  EXPECT_EQ(SnapshotStride(0, 2), 1);
  EXPECT_EQ(SnapshotStride(127, 128), 1);
  EXPECT_EQ(SnapshotStride(128, 128), 2);
  EXPECT_EQ(SnapshotStride(255, 128), 2);
  EXPECT_EQ(SnapshotStride(256, 128), 4);
  for (int64_t due = 1; due < 300; ++due) EXPECT_LT(due / SnapshotStride(due, 5), 5);
}

TEST(SnapshotStrideTest, CountsWhatAFinishedRunKeeps) {
  EXPECT_EQ(SnapshotsAtEnd(1000, 0, 128), 0);
  EXPECT_EQ(SnapshotsAtEnd(1000, 100, 128), 10);
  EXPECT_EQ(SnapshotsAtEnd(1050, 100, 128), 11);
  EXPECT_EQ(SnapshotsAtEnd(50, 100, 128), 1);
  EXPECT_EQ(SnapshotsAtEnd(1000, 100, 5), 3);  // 400, 800, 1000
  EXPECT_EQ(SnapshotsAtEnd(1200, 100, 5), 3);  // 400, 800, 1200
}

TEST(ReconstructEmaTest, FindsAStoredAverageItself) {
  const std::vector<PowerEma> stored = TwoProfiles(100, 1000);
  const auto found = ReconstructEma(stored, stored[7]);
  ASSERT_TRUE(found.ok()) << found.status();
  for (size_t i = 0; i < stored.size(); ++i) EXPECT_NEAR(found->coefficients[i], i == 7 ? 1 : 0, 1e-6) << i;
  EXPECT_LT(found->residual, 1e-6);
}

TEST(ReconstructEmaTest, ItsResidualIsThatOfTheSharesSummedOneByOne) {
  const std::vector<PowerEma> stored = TwoProfiles(50, 1000);
  for (const double sigma_rel : {0.03, 0.07, 0.15, 0.25}) {
    for (const int64_t at : {int64_t{500}, int64_t{725}, int64_t{1000}}) {
      const PowerEma wanted{PowerEmaGamma(sigma_rel), at};
      const auto found = ReconstructEma(stored, wanted);
      ASSERT_TRUE(found.ok()) << found.status();
      double sum = 0;
      for (const double x : found->coefficients) sum += x;
      EXPECT_NEAR(sum, 1, 1e-9);
      const double residual = TrueResidual(stored, wanted, found->coefficients);
      EXPECT_NEAR(found->residual, residual, 1e-3 * residual + 1e-7) << sigma_rel << " at " << at;
    }
  }
}

TEST(ReconstructEmaTest, BeatsTheNearestStoredAverageByFar) {
  const std::vector<PowerEma> stored = TwoProfiles(50, 1000);
  const PowerEma wanted{PowerEmaGamma(0.07), 1000};
  double nearest = 1e9;
  for (const PowerEma& one : stored) nearest = std::min(nearest, TrueResidual({one}, wanted, {1.0}));
  const auto found = ReconstructEma(stored, wanted);
  ASSERT_TRUE(found.ok()) << found.status();
  RecordProperty("residual", std::to_string(found->residual));
  EXPECT_LT(found->residual, nearest / 50) << "nearest " << nearest;
}

TEST(ReconstructEmaTest, TakesWhatIsStoredTwiceOnce) {
  std::vector<PowerEma> stored = TwoProfiles(100, 1000);
  const PowerEma wanted{PowerEmaGamma(0.07), 1000};
  const double once = ReconstructEma(stored, wanted)->residual;
  const std::vector<PowerEma> again = TwoProfiles(100, 1000);
  stored.insert(stored.end(), again.begin(), again.end());
  EXPECT_NEAR(ReconstructEma(stored, wanted)->residual, once, 1e-3 * once);
}

TEST(ReconstructEmaTest, StaysSoundWithTheMostSnapshotsOfALongRun) {
  const auto found = ReconstructEma(TwoProfiles(7'812, 128 * 7'812), {PowerEmaGamma(0.07), 128 * 7'812});
  ASSERT_TRUE(found.ok()) << found.status();
  RecordProperty("residual", std::to_string(found->residual));
  RecordProperty("noise_gain", std::to_string(found->noise_gain));
  EXPECT_LT(found->residual, 1e-2);
  EXPECT_LT(found->noise_gain, 100);
}

TEST(ReconstructEmaTest, RefusesWhatNoStoredAverageSaw) {
  EXPECT_THAT(ReconstructEma(TwoProfiles(100, 1000), {5, 1001}).status().message(),
              ::testing::HasSubstr("after 1001 updates is wanted, but the last stored one is of 1000"));
  EXPECT_FALSE(ReconstructEma({}, {5, 1}).ok());
  EXPECT_FALSE(ReconstructEma(TwoProfiles(100, 1000), {-0.5, 10}).ok());
  EXPECT_FALSE(ReconstructEma(TwoProfiles(100, 1000), {5, 0}).ok());
}

}  // namespace
}  // namespace p2::spec
