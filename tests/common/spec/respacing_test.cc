#include "common/spec/respacing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/common/spec/golden.h"

namespace p2::spec {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SpaceTimestepsTest, KeepsExactlyThePublishedSteps) {
  const nlohmann::json file = GoldenJson("respacing.json");
  ASSERT_FALSE(file.at("cases").empty());
  for (const auto& golden : file.at("cases")) {
    const auto steps = SpaceTimesteps(golden["num_timesteps"], golden["spec"].get<std::string>());
    ASSERT_TRUE(steps.ok()) << golden["spec"] << steps.status();
    EXPECT_EQ(*steps, golden["timesteps"].get<std::vector<int>>()) << golden["spec"];
  }
}

TEST(SpaceTimestepsTest, TakesAndRefusesTheOddSpecsOfThePublishedCode) {
  const nlohmann::json file = GoldenJson("respacing.json");
  ASSERT_FALSE(file.at("errors").empty());
  for (const auto& golden : file.at("errors")) {
    const auto steps = SpaceTimesteps(golden["num_timesteps"], golden["spec"].get<std::string>());
    EXPECT_EQ(!steps.ok(), golden["is_error"].get<bool>()) << golden["spec"];
    if (!steps.ok()) continue;
    EXPECT_EQ(*steps, golden["timesteps"].get<std::vector<int>>()) << golden["spec"];
  }
}

TEST(SpaceTimestepsTest, SaysWhichSectionIsTooSmall) {
  const auto steps = SpaceTimesteps(1000, "600,600");
  EXPECT_THAT(std::string(steps.status().message()), HasSubstr("a section of 500 timesteps cannot give 600"));
  EXPECT_THAT(std::string(SpaceTimesteps(1000, "5,x").status().message()), HasSubstr("\"x\" is no integer"));
}

TEST(SpaceTimestepsTest, AllowsBlanksAndSigns) { EXPECT_THAT(*SpaceTimesteps(10, " +2 , 1"), ElementsAre(0, 4, 5)); }

TEST(SpacedScheduleTest, EqualsThePublishedProcess) {
  const nlohmann::json file = GoldenJson("respacing.json");
  ASSERT_FALSE(file.at("spaced").empty());
  for (const auto& golden : file.at("spaced")) {
    const auto base = MakeNoiseSchedule(*ParseScheduleKind(golden["schedule"].get<std::string>()),
                                        golden["num_timesteps"].get<int>());
    ASSERT_TRUE(base.ok()) << base.status();
    const std::string spec = golden["spec"];
    const auto spaced = MakeSpacedSchedule(*base, spec);
    ASSERT_TRUE(spaced.ok()) << spaced.status();
    EXPECT_EQ(spaced->timestep_map, golden["timestep_map"].get<std::vector<int>>());
    const auto want = [&](const char* name) { return golden[name].get<std::vector<double>>(); };
    ExpectClose(spaced->schedule.betas, want("betas"), "betas of " + spec);
    ExpectClose(spaced->schedule.alphas_cumprod, want("alphas_cumprod"), "abar of " + spec);
    ExpectClose(spaced->schedule.posterior_variance, want("posterior_variance"), "posterior variance of " + spec);
    ExpectClose(spaced->schedule.posterior_log_variance_clipped, want("posterior_log_variance_clipped"),
                "log variance of " + spec, 1e-9);
    ExpectClose(spaced->schedule.snr, want("snr"), "snr of " + spec);
  }
}

TEST(SpacedScheduleTest, RefusesToKeepNothing) {
  const auto base = MakeNoiseSchedule(ScheduleKind::kLinear, 100);
  EXPECT_THAT(std::string(MakeSpacedSchedule(*base, "0").status().message()), HasSubstr("keeps no timestep"));
  EXPECT_TRUE(MakeSpacedSchedule(*base, "1").ok());
}

}  // namespace
}  // namespace p2::spec
