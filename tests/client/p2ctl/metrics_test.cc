// metrics: which series and rows it shows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "absl/strings/str_split.h"
#include "tests/client/p2ctl/p2ctl_fixture.h"

namespace p2::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;
using Json = nlohmann::json;

using MetricsTest = P2ctlTest;

TEST_F(MetricsTest, AreRowsOverImages) {
  server_.SetJob(MakeJob("a", v1::Job::SUCCEEDED, 64));
  server_.With([](FakeState& s) {
    for (const int64_t images : {32, 64}) {
      v1::StreamMetricsResponse& row = s.metrics["jobs/a"].emplace_back();
      row.set_images_seen(images);
      row.set_step(images / 32);
      row.set_attempt(1);
      row.mutable_time()->set_seconds(1795424077);
      (*row.mutable_values())["loss"] = 1.0 / static_cast<double>(images);
      (*row.mutable_values())["mse"] = 0.5;
    }
  });
  EXPECT_EQ(P2ctl({"metrics", "a", "-m", "loss", "-o", "csv"}).out,
            "job,images,step,attempt,time,loss\na,32,1,1,2026-11-23T08:54:37Z,0.03125\na,64,2,1,2026-11-23T08:54:37Z,0."
            "015625\n");
  const Json json = Json::parse(P2ctl({"metrics", "a", "-o", "json"}).out);
  EXPECT_EQ(json["items"][1]["values"], Json::parse(R"({"loss":0.015625,"mse":0.5})"));
  const P2ctlResult follow = P2ctl({"metrics", "a", "-f", "-o", "jsonl"});
  EXPECT_EQ(follow.exit_code, 0);
  EXPECT_THAT(std::vector<std::string>(absl::StrSplit(follow.out, '\n')), SizeIs(3));
}

TEST_F(MetricsTest, OfALongJobComeInPartsAndWithoutTheBinsOfTheSnr) {
  server_.SetJob(MakeJob("a", v1::Job::SUCCEEDED, 500));
  server_.With([](FakeState& s) {
    s.max_metric_bytes = 2000;
    for (int64_t images = 1; images <= 500; ++images) {
      v1::StreamMetricsResponse& row = s.metrics["jobs/a"].emplace_back();
      row.set_images_seen(images);
      for (const char* metric : {"loss", "mse", "grad_norm", "loss_snr_00", "loss_snr_01"})
        (*row.mutable_values())[metric] = 0.5;
    }
  });
  const P2ctlResult all = P2ctl({"metrics", "a", "-o", "csv"});
  EXPECT_EQ(all.exit_code, 0) << all.err;
  const std::vector<std::string> lines = absl::StrSplit(all.out, '\n');
  ASSERT_THAT(lines, SizeIs(502));
  EXPECT_EQ(lines[0], "job,images,step,attempt,time,grad_norm,loss,mse");
  EXPECT_THAT(lines[1], StartsWith("a,1,"));
  EXPECT_THAT(lines[500], AllOf(StartsWith("a,500,"), ::testing::EndsWith(",0.5,0.5,0.5")));
  EXPECT_THAT(P2ctl({"metrics", "a", "-m", "loss_snr_*", "-o", "csv"}).out,
              HasSubstr(",loss_snr_00,loss_snr_01\na,1,"));
  EXPECT_EQ(P2ctl({"metrics", "a", "-o", "name"}).out, "a\n");
}

TEST_F(MetricsTest, OldPointsThatP2dKeepsThinnedAreShownWithTheirRangeAndAskedForOnce) {
  server_.SetJob(MakeJob("a", v1::Job::SUCCEEDED, 50'000'000));
  server_.With([](FakeState& s) {
    s.metrics_thinned_to = 30'000'000;
    for (int64_t images = 100'000; images <= 50'000'000; images += 100'000) {
      v1::StreamMetricsResponse& row = s.metrics["jobs/a"].emplace_back();
      row.set_images_seen(images);
      (*row.mutable_values())["loss"] = 5;
    }
  });
  const P2ctlResult all = P2ctl({"metrics", "a", "-o", "csv"});
  EXPECT_EQ(all.exit_code, 0) << all.err;
  const std::vector<std::string> lines = absl::StrSplit(all.out, '\n');
  ASSERT_THAT(lines, SizeIs(502));
  EXPECT_EQ(lines[0], "job,images,step,attempt,time,loss,loss_min,loss_max");
  EXPECT_THAT(lines[1], ::testing::EndsWith(",5,4,6"));
  EXPECT_THAT(lines[500], ::testing::EndsWith(",5,,"));
  server_.With([](FakeState& s) { EXPECT_LE(s.metric_queries, 4); });
  // Where there are too many for one answer as well.
  server_.With([](FakeState& s) {
    s.max_metric_bytes = 5000;
    s.metric_queries = 0;
  });
  EXPECT_THAT(std::vector<std::string>(absl::StrSplit(P2ctl({"metrics", "a", "-o", "csv"}).out, '\n')), SizeIs(502));
  server_.With([](FakeState& s) { EXPECT_LE(s.metric_queries, 30); });
}

TEST_F(MetricsTest, AMetricThatAJobHasNotIsRefusedOnceItHasPoints) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING, 8100));
  EXPECT_THAT(P2ctl({"metrics", "a", "-m", "los"}).err, HasSubstr("no points yet"));
  EXPECT_EQ(P2ctl({"wait", "a", "--for", "metric:los<1", "--timeout", "50ms"}).exit_code, 8);
  server_.SetJob(MakeJob("ended", v1::Job::FAILED));
  EXPECT_THAT(P2ctl({"metrics", "ended"}).err,
              AllOf(HasSubstr("no points: the job ended before its first"), ::testing::Not(HasSubstr("yet"))));
  server_.With([](FakeState& s) {
    for (const char* metric : {"loss", "mse", "loss_snr_00"})
      (*s.metrics["jobs/a"].emplace_back().mutable_values())[metric] = 1;
  });
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"metrics", "a", "-m", "los"},
                                                    {"metrics", "a", "-f", "-m", "mse,los"},
                                                    {"wait", "a", "--for", "metric:los<=0.1"}}) {
    const P2ctlResult result = P2ctl(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_THAT(result.err, HasSubstr("no metric \"los\"; did you mean \"loss\"? it has loss, mse, parts of the loss"));
  }
}

}  // namespace
}  // namespace p2::testing
