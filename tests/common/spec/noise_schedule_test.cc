#include "common/spec/noise_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/spec/weighting.h"
#include "tests/common/spec/golden.h"

namespace p2::spec {
namespace {

using ::testing::HasSubstr;

class NoiseScheduleGoldenTest : public ::testing::TestWithParam<const char*> {};

TEST_P(NoiseScheduleGoldenTest, EqualsThePublishedNumbers) {
  const auto schedule = MakeNoiseSchedule(*ParseScheduleKind(GetParam()), 1000);
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  const std::pair<const char*, const std::vector<double>&> arrays[] = {
      {"betas", schedule->betas},
      {"alphas_cumprod", schedule->alphas_cumprod},
      {"alphas_cumprod_prev", schedule->alphas_cumprod_prev},
      {"alphas_cumprod_next", schedule->alphas_cumprod_next},
      {"sqrt_alphas_cumprod", schedule->sqrt_alphas_cumprod},
      {"sqrt_one_minus_alphas_cumprod", schedule->sqrt_one_minus_alphas_cumprod},
      {"sqrt_recip_alphas_cumprod", schedule->sqrt_recip_alphas_cumprod},
      {"sqrt_recipm1_alphas_cumprod", schedule->sqrt_recipm1_alphas_cumprod},
      {"snr", schedule->snr},
      {"posterior_variance", schedule->posterior_variance},
      {"posterior_mean_coef1", schedule->posterior_mean_coef1},
      {"posterior_mean_coef2", schedule->posterior_mean_coef2}};
  const std::string prefix = std::string(GetParam()) + "_1000.";
  for (const auto& [name, values] : arrays) ExpectClose(values, GoldenSchedule(prefix + name), name);
  ExpectClose(schedule->log_betas, GoldenSchedule(prefix + "log_betas"), "log_betas", 1e-9);
  ExpectClose(schedule->log_one_minus_alphas_cumprod, GoldenSchedule(prefix + "log_one_minus_alphas_cumprod"),
              "log(1-abar)", 1e-9);
  ExpectClose(schedule->posterior_log_variance_clipped, GoldenSchedule(prefix + "posterior_log_variance_clipped"),
              "posterior log variance", 1e-9);
}

TEST_P(NoiseScheduleGoldenTest, GivesThePublishedWeights) {
  const auto schedule = MakeNoiseSchedule(*ParseScheduleKind(GetParam()), 1000);
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  const std::string prefix = std::string(GetParam()) + "_1000.";
  ExpectClose(Lambda(*schedule), GoldenSchedule(prefix + "lambda"), "lambda");
  ExpectClose(Normalised(Lambda(*schedule)), GoldenSchedule(prefix + "lambda_normalised"), "normalised lambda");
  for (const auto& [tag, gamma] : {std::pair("k1_g0", 0.0), {"k1_g0.5", 0.5}, {"k1_g1", 1.0}, {"k1_g2", 2.0}}) {
    const auto weights = ObjectiveWeights("p2", gamma, 1, *schedule);
    ASSERT_TRUE(weights.ok()) << weights.status();
    ExpectClose(*weights, GoldenSchedule(prefix + "p2_weight." + tag), tag);
    const std::vector<double> lambda_prime = LambdaPrime(*schedule, *weights);
    ExpectClose(lambda_prime, GoldenSchedule(prefix + "lambda_prime." + tag), tag);
    ExpectClose(Normalised(lambda_prime), GoldenSchedule(prefix + "lambda_prime_normalised." + tag), tag);
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, NoiseScheduleGoldenTest, ::testing::Values("linear", "cosine"));

TEST(NoiseScheduleTest, AcceptsWhatThePublishedCodeAccepts) {
  const nlohmann::json file = GoldenJson("schedules.json");
  ASSERT_FALSE(file.at("accept_reject").empty());
  for (const auto& golden : file.at("accept_reject")) {
    const auto kind = ParseScheduleKind(golden["name"].get<std::string>());
    const bool ok = kind.ok() && MakeNoiseSchedule(*kind, golden["T"].get<int>()).ok();
    EXPECT_EQ(ok, golden["ok"].get<bool>()) << golden;
  }
}

TEST(NoiseScheduleTest, EndsAtPureNoiseWithTwentyLinearSteps) {
  const auto schedule = MakeNoiseSchedule(ScheduleKind::kLinear, 20);
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_EQ(schedule->betas.back(), 1.0);
  EXPECT_EQ(schedule->snr.back(), 0.0);
}

TEST(NoiseScheduleTest, IsFiniteWithOneStep) {
  const auto schedule = MakeNoiseSchedule(ScheduleKind::kCosine, 1);
  ASSERT_TRUE(schedule.ok()) << schedule.status();
  EXPECT_TRUE(std::isfinite(schedule->posterior_log_variance_clipped[0]));
}

TEST(NoiseScheduleTest, RefusesBetasOutsideItsRange) {
  for (const double bad : {0.0, -0.1, 1.1, std::numeric_limits<double>::quiet_NaN()}) {
    const auto schedule = MakeNoiseSchedule({0.1, bad});
    EXPECT_EQ(schedule.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(schedule.status().message()), HasSubstr("at t = 1"));
  }
  EXPECT_FALSE(MakeNoiseSchedule(absl::Span<const double>()).ok());
  EXPECT_FALSE(MakeNoiseSchedule(ScheduleKind::kCosine, 0).ok());
  EXPECT_FALSE(MakeNoiseSchedule(ScheduleKind::kCosine, 100001).ok());
}

}  // namespace
}  // namespace p2::spec
