// Sentences of arXiv:2204.00227 about the objective's weight.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "common/spec/noise_schedule.h"
#include "common/spec/weighting.h"
#include "tests/common/spec/golden.h"

namespace p2::spec {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

class WeightingPaperTest : public ::testing::TestWithParam<ScheduleKind> {
 protected:
  const NoiseSchedule schedule_ = MakeNoiseSchedule(GetParam(), 1000).value();

  std::vector<double> Weights(absl::string_view weight, double gamma = 1, double k = 1) {
    return ObjectiveWeights(weight, gamma, k, schedule_).value();
  }
};

TEST_P(WeightingPaperTest, LambdaFollowsFromTheSnrAlone) {  // Appendix, identity (A.2)
  const std::vector<double> lambda = Lambda(schedule_);
  for (int t = 1; t < 1000; ++t) {
    const double snr = schedule_.snr[t];
    const double before = schedule_.snr[t - 1];
    const double want = snr * (1 + before) / ((1 + snr) * (before - snr));
    // snr cancels to about 1e-16 / snr at the noisy end.
    ASSERT_NEAR(lambda[t] / want, 1, 1e-9 + 4e-16 / snr) << t;
  }
}

TEST_P(WeightingPaperTest, TheBoundsWeightTimesLambdaIsTheSimpleWeight) {  // Eq. 5 to 7
  const std::vector<double> vlb = Weights("vlb");
  const std::vector<double> simple = Weights("simple");
  EXPECT_THAT(simple, Each(1.0));
  ExpectClose(LambdaPrime(schedule_, vlb), simple, "lambda * vlb");
}

TEST_P(WeightingPaperTest, GammaZeroIsTheBaseline) { EXPECT_THAT(Weights("p2", 0), Each(1.0)); }

TEST_P(WeightingPaperTest, WithKAndGammaOneTheFactorIsOneMinusAbar) {
  const std::vector<double> weights = Weights("p2", 1, 1);
  for (int t = 0; t < 1000; ++t) ASSERT_NEAR(weights[t], 1 - schedule_.alphas_cumprod[t], 1e-12) << t;
}

TEST_P(WeightingPaperTest, TheSnrFallsThroughTheThreeStages) {  // coarse < 1e-2 <= content <= 1 < clean-up
  EXPECT_TRUE(std::is_sorted(schedule_.snr.rbegin(), schedule_.snr.rend()));
  const auto count = [this](double low, double high) {
    return std::count_if(schedule_.snr.begin(), schedule_.snr.end(), [=](double s) { return s >= low && s < high; });
  };
  EXPECT_GT(count(0, 1e-2), 0);
  EXPECT_GT(count(1e-2, 1), 0);
  EXPECT_GT(count(1, 1e6), 0);
  EXPECT_GT(schedule_.snr.front(), 9e3);
}

TEST_P(WeightingPaperTest, P2MovesWeightFromTheCleanUpStageToTheOthers) {
  const std::vector<double> baseline = Normalised(Lambda(schedule_));
  const std::vector<double> p2 = Normalised(LambdaPrime(schedule_, Weights("p2", 1)));
  double clean_up_baseline = 0;
  double clean_up_p2 = 0;
  for (int t = 0; t < 1000; ++t) {
    if (schedule_.snr[t] <= 1) continue;
    clean_up_baseline += baseline[t];
    clean_up_p2 += p2[t];
  }
  EXPECT_LT(clean_up_p2, 0.6 * clean_up_baseline);
}

TEST_P(WeightingPaperTest, AnExpressionSaysTheSameAsTheSchemes) {
  ExpectClose(Weights("pow(k + snr, -gamma)", 0.5, 2), Weights("p2", 0.5, 2), "p2");
  ExpectClose(Weights("1 / lambda"), Weights("vlb"), "vlb");
  ExpectClose(Weights(" 1 "), Weights(" simple "), "simple");
}

INSTANTIATE_TEST_SUITE_P(Schedules, WeightingPaperTest, ::testing::Values(ScheduleKind::kLinear, ScheduleKind::kCosine),
                         [](const auto& info) { return info.param == ScheduleKind::kLinear ? "Linear" : "Cosine"; });

TEST(ObjectiveWeightsTest, NamesTheFirstTimestepWithABadWeight) {
  const NoiseSchedule schedule = MakeNoiseSchedule(ScheduleKind::kLinear, 1000).value();
  const auto message = [&](absl::string_view weight) {
    return std::string(ObjectiveWeights(weight, 1, 1, schedule).status().message());
  };
  EXPECT_THAT(message("10 - t"), HasSubstr("is -1 at t = 11"));
  EXPECT_THAT(message("1 / (t - 5)"), HasSubstr("at t = 0"));
  EXPECT_THAT(message("log(t)"), HasSubstr("-inf at t = 0"));
  EXPECT_THAT(message("p3"), HasSubstr("neither a scheme (p2, simple, vlb, min-snr, truncated-snr) nor an expression"));
}

TEST(ObjectiveWeightsTest, RefusesNegativeConstants) {
  const NoiseSchedule schedule = MakeNoiseSchedule(ScheduleKind::kLinear, 100).value();
  EXPECT_THAT(std::string(ObjectiveWeights("p2", -1, 1, schedule).status().message()),
              HasSubstr("gamma must be finite and at least 0, not -1"));
  EXPECT_THAT(std::string(ObjectiveWeights("p2", 1, -1, schedule).status().message()), HasSubstr("k must be"));
  EXPECT_FALSE(ObjectiveWeights("p2", std::nan(""), 1, schedule).ok());
}

TEST(ObjectiveWeightsTest, RefusesTheBoundsWeightWhereTheLastStepIsPureNoise) {
  const NoiseSchedule schedule = MakeNoiseSchedule(ScheduleKind::kLinear, 20).value();
  EXPECT_THAT(std::string(ObjectiveWeights("vlb", 1, 1, schedule).status().message()), HasSubstr("inf at t = 19"));
  EXPECT_TRUE(ObjectiveWeights("p2", 1, 1, schedule).ok());
}

}  // namespace
}  // namespace p2::spec
