#include "worker/metrics/frechet_distance.h"

#include <ATen/ATen.h>

#include "gtest/gtest.h"
#include "tests/support/golden.h"

namespace p2::metrics {
namespace {

TEST(FrechetDistanceTest, EqualsTheReference) {
  const nlohmann::json golden = testing::GoldenJson("metrics.json").at("frechet");
  const testing::GoldenTensors tensors("metrics.safetensors");
  ASSERT_FALSE(golden.empty());
  for (const auto& [name, want] : golden.items()) {
    SCOPED_TRACE(name);
    const double tolerance = want.at("rank_deficient").get<bool>() ? 1e-6 : 1e-8;
    const FeatureStatistics a = MakeFeatureStatistics(tensors[name + ".a"]),
                            b = MakeFeatureStatistics(tensors[name + ".b"]);
    const FrechetDistance got = CalcFrechetDistance(a, b);
    const auto near = [&](double value, const char* key) {
      EXPECT_NEAR(value, want.at(key).get<double>(), tolerance * want.at(key).get<double>()) << key;
    };
    near(got.distance, "fid");
    near(got.mean_term, "mean_term");
    near(got.trace_a, "trace_a");
    near(got.trace_b, "trace_b");
    near(got.trace_sqrt, "trace_sqrt");
    EXPECT_NEAR(CalcFrechetDistance(a, a).distance, 0, tolerance * got.trace_a);
  }
}

TEST(FrechetDistanceTest, RefusesOneImageAndUnequalDimensions) {
  EXPECT_THROW(MakeFeatureStatistics(at::zeros({1, 3})), c10::Error);
  EXPECT_THROW(CalcFrechetDistance(MakeFeatureStatistics(at::rand({4, 3})), MakeFeatureStatistics(at::rand({4, 2}))),
               c10::Error);
}

}  // namespace
}  // namespace p2::metrics
