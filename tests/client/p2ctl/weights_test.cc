// weights and snr: what researchers see of the objective. No server is needed for weights.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "tests/client/p2ctl/p2ctl_fixture.h"

namespace p2::testing {
namespace {

using ::testing::AllOf;
using ::testing::DoubleNear;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;
using Json = nlohmann::json;

TEST(WeightsTest, ListsTheSchemesWithTheirExpressions) {
  const Json json = Json::parse(RunP2ctl({"weights", "list", "-o", "json"}).out);
  std::vector<std::string> names;
  for (const Json& item : json["items"]) names.push_back(item["scheme"]);
  EXPECT_THAT(names, ::testing::ElementsAre("p2", "simple", "vlb", "min-snr", "truncated-snr"));
  EXPECT_EQ(json["items"][0]["expression"], "1 / pow(k + snr, gamma)");
}

TEST(WeightsTest, CheckTellsExtremesAndTheSharesOfTheStages) {
  const P2ctlResult result = RunP2ctl({"weights", "check", "p2", "simple", "1", "--gamma", "0,1", "-o", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json items = Json::parse(result.out)["items"];
  ASSERT_THAT(items, SizeIs(4));
  for (const Json& item : items) {
    const Json& shares = item["shares"];
    EXPECT_NEAR(double(shares["coarse"]) + double(shares["content"]) + double(shares["cleanUp"]), 1, 1e-12);
  }
  // gamma = 0 is the baseline, whichever way it is written.
  EXPECT_EQ(items[0]["shares"], items[2]["shares"]);
  EXPECT_EQ(items[0]["shares"], items[3]["shares"]);
  // 1 / (1 + SNR) = 1 - abar: largest at the last timestep, where next to nothing of the image is left.
  EXPECT_EQ(items[1]["maxAt"], 999);
  EXPECT_THAT(double(items[1]["max"]), DoubleNear(1, 1e-4));
  // P2 takes from the clean-up stage and gives to the content stage (the paper's claim).
  EXPECT_LT(double(items[1]["shares"]["cleanUp"]), double(items[0]["shares"]["cleanUp"]));
  EXPECT_GT(double(items[1]["shares"]["content"]), double(items[0]["shares"]["content"]));
}

TEST(WeightsTest, RefusesWhatCannotBeTrainedWith) {
  const P2ctlResult negative = RunP2ctl({"weights", "check", "snr-1"});
  EXPECT_EQ(negative.exit_code, 2);
  EXPECT_THAT(negative.err, AllOf(HasSubstr("must be finite and at least 0"), HasSubstr("at t = ")));
  EXPECT_EQ(RunP2ctl({"weights", "check", "sqrt(snrr)"}).exit_code, 2);
  EXPECT_THAT(RunP2ctl({"weights", "check", "0"}).err, HasSubstr("nothing would be trained"));
  EXPECT_EQ(RunP2ctl({"weights", "plot", "--gamma", "a"}).exit_code, 2);
  EXPECT_THAT(RunP2ctl({"weights", "check", "p2", "--gamma", "3"}).err, HasSubstr("noise artifacts"));
}

TEST(WeightsTest, PlotDrawsBothViewsInATerminalAndAsAPng) {
  const P2ctlResult text = RunP2ctl({"weights", "plot"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, AllOf(HasSubstr("factor on the ε-MSE"), HasSubstr("λ-view"), HasSubstr("p2 gamma=0.5"),
                              HasSubstr("\xE2\xA1") /* braille */));
  const std::string file = MakeTempDir() + "/weights.png";
  const P2ctlResult png = RunP2ctl({"weights", "plot", "p2", "vlb", "--against", "snr", "--normalised", "--out", file});
  EXPECT_EQ(png.exit_code, 0) << png.err;
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
  EXPECT_THAT(bytes, StartsWith("\x89PNG\r\n\x1a\n"));
  EXPECT_GT(bytes.size(), 10000u);
  EXPECT_EQ(RunP2ctl({"weights", "plot", "--out", "/nowhere/at/all.png"}).exit_code, 3);
}

TEST(WeightsTest, PlotGivesProgramsTheNumbers) {
  const P2ctlResult csv = RunP2ctl({"weights", "plot", "min-snr", "--timesteps", "50", "-o", "csv"});
  EXPECT_EQ(csv.exit_code, 0) << csv.err;
  EXPECT_THAT(csv.out, StartsWith("t,snr,factor min-snr,lambda min-snr\n0,"));
  EXPECT_EQ(std::count(csv.out.begin(), csv.out.end(), '\n'), 51);
}

using SnrTest = P2ctlTest;

TEST_F(SnrTest, AddsUpBinsAndStagesOfTheRange) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING, 200));
  server_.With([](FakeState& s) {
    for (const int64_t images : {100, 200}) {
      v1::StreamMetricsResponse& row = s.metrics["jobs/a"].emplace_back();
      row.set_images_seen(images);
      row.set_attempt(1);
      auto& values = *row.mutable_values();
      values["mse_weighted"] = images == 100 ? 0.5 : 0.25;
      // Bin 3 is coarse, 7 content: 30 and 10 samples of each row.
      values["count_snr_03"] = 30;
      values["loss_snr_03"] = 0.1;
      values["weighted_share_snr_03"] = images == 100 ? 0.25 : 0.75;
      values["count_snr_07"] = 10;
      values["loss_snr_07"] = images == 100 ? 0.2 : 0.4;
      values["weighted_share_snr_07"] = images == 100 ? 0.75 : 0.25;
    }
  });
  const P2ctlResult result = P2ctl({"snr", "a", "--from", "0", "-o", "json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json items = Json::parse(result.out)["items"];
  ASSERT_THAT(items, SizeIs(27));
  EXPECT_EQ(items[3]["count"], 60);
  EXPECT_NEAR(double(items[7]["mse"]), 0.3, 1e-12);
  EXPECT_TRUE(items[0]["mse"].is_null());
  // Weighted sums: 40 (0.5 * 0.25 + 0.25 * 0.75) and 40 (0.5 * 0.75 + 0.25 * 0.25), of 40 * 0.75.
  EXPECT_NEAR(double(items[3]["weightedShare"]), (0.125 + 0.1875) / 0.75, 1e-12);
  double bins = 0, stages = 0;
  for (int i = 0; i < 24; ++i) bins += double(items[i]["weightedShare"]);
  for (int i = 24; i < 27; ++i) stages += double(items[i]["weightedShare"]);
  EXPECT_NEAR(bins, 1, 1e-12);
  EXPECT_NEAR(stages, 1, 1e-12);
  EXPECT_EQ(items[24]["bin"], "coarse");
  EXPECT_EQ(items[24]["count"], 60);
  EXPECT_EQ(items[25]["count"], 20);
  // By default the newest tenth: the second row alone.
  EXPECT_EQ(Json::parse(P2ctl({"snr", "a", "-o", "json"}).out)["items"][3]["count"], 30);
  EXPECT_THAT(P2ctl({"snr", "a"}).out, AllOf(HasSubstr("content"), HasSubstr("clean-up"), HasSubstr("####")));
  // A point that stands for 16 rows counts as 16.
  server_.With([](FakeState& s) { s.metrics_thinned_to = 100; });
  EXPECT_EQ(Json::parse(P2ctl({"snr", "a", "--from", "0", "-o", "json"}).out)["items"][3]["count"], 16 * 30 + 30);
}

TEST_F(SnrTest, SaysWhenThereIsNothingYet) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING, 0));
  const P2ctlResult result = P2ctl({"snr", "a"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("reported nothing by SNR"));
}

}  // namespace
}  // namespace p2::testing
