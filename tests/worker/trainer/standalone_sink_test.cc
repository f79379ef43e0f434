#include "worker/trainer/standalone_sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "absl/strings/str_split.h"
#include "tests/worker/trainer/tiny_dataset.h"

namespace p2::trainer {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

TEST(StandaloneSinkTest, AppendsPointsToOneCsvAcrossRuns) {
  const std::string out = FreshDir();
  for (int64_t run = 1; run <= 2; ++run) {
    StandaloneSink sink(out, 100);
    sink.Emit(MetricPoints{run * 10, run, {{"loss", 0.25}, {"loss_snr_03", 0.5}}});
  }
  std::ifstream file(out + "/metrics.csv");
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  ASSERT_THAT(lines, SizeIs(3));
  EXPECT_THAT(lines[0], StartsWith("images_seen,step,loss,mse,"));
  EXPECT_THAT(lines[2], StartsWith("20,2,0.25,,"));
  const std::vector<std::string> head = absl::StrSplit(lines[0], ','), cells = absl::StrSplit(lines[1], ',');
  EXPECT_EQ(head.size(), cells.size());
}

TEST(StandaloneSinkTest, TellsHowItEndedAndHowToGoOn) {
  ::testing::internal::CaptureStdout();
  {
    StandaloneSink sink(FreshDir(), 100);
    sink.Emit(Finished{Finished::Outcome::kStopped, 40, 48, ""});
  }
  EXPECT_THAT(::testing::internal::GetCapturedStdout(), HasSubstr("stopped at 48 images; go on with --resume"));
}

}  // namespace
}  // namespace p2::trainer
