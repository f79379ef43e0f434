#include "worker/metrics/feature_extractor.h"

#include <ATen/ATen.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/golden.h"

namespace p2::metrics {
namespace {

using ::testing::HasSubstr;

TEST(FeatureExtractorTest, EqualsTheReference) {
  const nlohmann::json golden = testing::GoldenJson("metrics.json").at("features");
  const testing::GoldenTensors tensors("metrics.safetensors");
  const auto extractor = FeatureExtractor::Load(testing::GoldenPath(golden.at("file")));
  ASSERT_TRUE(extractor.ok()) << extractor.status();
  const auto features = (*extractor)->Extract(tensors["features.in"]);
  ASSERT_TRUE(features.ok()) << features.status();
  EXPECT_LE(testing::MaxDifference(*features, tensors["features.out"]), 1e-4);
  EXPECT_FALSE((*extractor)->Extract(at::zeros({1, 7, 4, 4})).ok());
}

TEST(FeatureExtractorTest, SaysWhatAFileIsNot) {
  EXPECT_EQ(FeatureExtractor::Load("/nonexistent.pt").status().code(), absl::StatusCode::kNotFound);
  for (const char* file : {"checkpoint/model000001.pt", "metrics.json", ""}) {
    const absl::Status status = FeatureExtractor::Load(testing::GoldenPath(file)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << file;
    EXPECT_THAT(std::string(status.message()), HasSubstr(file));
  }
}

}  // namespace
}  // namespace p2::metrics
