#include "common/spec/estimate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "common/spec/resolve.h"

namespace p2::spec {
namespace {

using ::testing::ElementsAre;

p2::v1::ResourceEstimate Estimate(std::vector<Override> overrides) {
  const auto resolved = Resolve({.preset = "ffhq-gamma0.5", .overrides = std::move(overrides)});
  EXPECT_TRUE(resolved.ok()) << resolved.status();
  const auto estimate = EstimateResources(resolved->spec);
  EXPECT_TRUE(estimate.ok()) << estimate.status();
  return *estimate;
}

TEST(EstimateTest, SharesTheBatchAsTrainingDoes) {
  EXPECT_THAT(ShareOfBatch(8, 3), ElementsAre(2, 3, 3));
  EXPECT_THAT(ShareOfBatch(5, 5), ElementsAre(1, 1, 1, 1, 1));
  const std::vector<int> large = ShareOfBatch(2'000'000'000, 7);
  EXPECT_EQ(std::accumulate(large.begin(), large.end(), int64_t{0}), 2'000'000'000);
}

TEST(EstimateTest, CountsWholeStepsUntilTheLastImage) {
  EXPECT_EQ(Estimate({}).steps(), 2'250'000);
  EXPECT_EQ(Estimate({{"training.images", "17"}}).steps(), 3);
}

TEST(EstimateTest, MemoryFollowsTheFullestDeviceAndTheMicrobatch) {
  const auto one = Estimate({});
  const auto four = Estimate({{"resources.devices", "4"}});
  const auto micro = Estimate({{"training.microbatch", "2"}});
  EXPECT_THAT(one.images_per_device(), ElementsAre(8));
  EXPECT_THAT(four.images_per_device(), ElementsAre(2, 2, 2, 2));
  EXPECT_LT(four.memory_bytes(), one.memory_bytes());
  EXPECT_EQ(micro.memory_bytes(), four.memory_bytes());
}

TEST(EstimateTest, MemoryFollowsPrecisionAndRecomputation) {
  const auto plain = Estimate({{"training.microbatch", "1"}});
  const auto bf16 = Estimate({{"training.microbatch", "1"}, {"training.precision", "bf16"}});
  const auto again = Estimate({{"training.microbatch", "1"}, {"model.activation_recompute", "true"}});
  const int64_t weights = 5 * 4 * plain.parameters();  // Parameters, gradients, optimizer, one average.
  const int64_t kept = plain.memory_bytes() - weights;
  EXPECT_NEAR(bf16.memory_bytes() - weights - 2 * plain.parameters(), 0.5 * kept, 0.1 * kept);
  EXPECT_LT(again.memory_bytes() - weights, 0.5 * kept);
  EXPECT_GT(again.memory_bytes() - weights, 0.1 * kept);
  EXPECT_EQ(Estimate({{"training.microbatch", "auto"}}).memory_bytes(), Estimate({}).memory_bytes());
}

TEST(EstimateTest, ACheckpointHoldsWeightsOptimizerAndEveryAverage) {
  EXPECT_EQ(Estimate({}).checkpoint_bytes(), 4 * 4 * int64_t{93'563'910});
  EXPECT_EQ(Estimate({{"ema", "[{rate: 0.9}, {rate: 0.99}]"}}).checkpoint_bytes(), 5 * 4 * int64_t{93'563'910});
}

TEST(EstimateTest, CountsSnapshotsOfThePowerFunctionAverages) {
  EXPECT_EQ(Estimate({}).ema_snapshot_bytes(), 0);
  const std::string emas = "[{rate: 0.9999}, {sigma_rel: 0.05}, {sigma_rel: 0.10}]";
  const std::vector<Override> few = {{"ema", emas}, {"training.images", "1M"}, {"ema_snapshots.every_images", "100k"}};
  EXPECT_EQ(Estimate(few).ema_snapshot_bytes(), 10 * 2 * 4 * int64_t{93'563'910});
  // 2500 due and at most 128: every 32nd, and the end.
  const std::vector<Override> many = {{"ema", emas}, {"training.images", "25M"}, {"ema_snapshots.every_images", "10k"}};
  EXPECT_EQ(Estimate(many).ema_snapshot_bytes(), 79 * 2 * 4 * int64_t{93'563'910});
}

TEST(EstimateTest, RefusesABatchThatCannotBeShared) {
  p2::v1::TrainingSpec spec = Resolve({.preset = "ffhq-gamma0.5"})->spec;
  spec.mutable_resources()->set_devices(9);
  EXPECT_EQ(EstimateResources(spec).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace p2::spec
