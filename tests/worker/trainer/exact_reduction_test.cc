// `exact`: a run's bits do not depend on how many ranks computed it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>
#include <string>
#include <vector>

#include "tests/worker/trainer/tiny_run.h"

namespace p2::trainer {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using Digests = std::map<std::string, std::string>;

class ExactReductionTest : public ::testing::Test {
 protected:
  void SetUp() override {
    data_ = FreshDir("exact-data");
    MakeTinyDataset(data_);
  }
  TrainOptions Options(const std::string& name, int leaves = 4) {
    TrainOptions options = TinyOptions(data_, FreshDir(name));
    options.spec.batch = 8;
    options.spec.images = 48;
    options.spec.log_every_images = 16;
    options.spec.leaves = leaves;
    return options;
  }
  // Runs to options.spec.images; the points it reported.
  std::vector<MetricPoints> Train(const TrainOptions& options, int ranks) {
    GangRun run(ranks);
    RunRanks(options, {}, &run);
    EXPECT_THAT(run.exit_codes, Each(ExitCode::kDone));
    EXPECT_THAT(run.sinks[0].Reasons(), IsEmpty());
    return run.sinks[0].Of<MetricPoints>();
  }

  std::string data_;
};

// What is a function of the training alone: not of the clock.
std::map<std::string, double> Numbers(const MetricPoints& point) {
  std::map<std::string, double> numbers = point.values;
  std::erase_if(numbers, [](const auto& value) { return value.first.find("_second") != std::string::npos; });
  return numbers;
}

TEST_F(ExactReductionTest, WeightsEmaOptimizerAndMetricsAreEqualOnOneToFourRanks) {
  Digests expected;
  std::vector<MetricPoints> curve;
  for (int ranks : {1, 2, 3, 4}) {
    const TrainOptions options = Options(absl::StrCat("exact-", ranks));
    const std::vector<MetricPoints> points = Train(options, ranks);
    const Digests digests = TensorDigests(options, 48);
    if (ranks == 1) {
      expected = digests;
      curve = points;
    }
    EXPECT_GE(digests.size(), 3u);
    EXPECT_EQ(digests, expected) << ranks << " ranks";
    ASSERT_EQ(points.size(), curve.size());
    for (size_t i = 0; i < points.size(); ++i) EXPECT_EQ(Numbers(points[i]), Numbers(curve[i])) << ranks << " ranks";
  }
}

TEST_F(ExactReductionTest, TheNumberOfRanksMayChangeAtEveryCheckpoint) {
  const TrainOptions whole = Options("exact-whole");
  const std::vector<MetricPoints> curve = Train(whole, 1);
  TrainOptions parts = Options("exact-parts");
  std::vector<MetricPoints> pieces;
  for (const auto& [ranks, images] : std::vector<std::pair<int, int64_t>>{{4, 24}, {1, 32}, {2, 48}}) {
    parts.spec.images = images;
    for (const MetricPoints& point : Train(parts, ranks)) pieces.push_back(point);
    parts = NextAttempt(parts);
  }
  parts.epoch -= 1;
  EXPECT_EQ(TensorDigests(parts, 48), TensorDigests(whole, 48));
  EXPECT_EQ(Numbers(pieces.back()), Numbers(curve.back()));
}

TEST_F(ExactReductionTest, DiffersFromFastOnlyByRounding) {
  std::vector<at::Tensor> gradients;
  for (int leaves : {0, 4}) {
    TrainOptions options = Options(absl::StrCat("exact-leaves-", leaves), leaves);
    options.spec.images = 8;
    TrainerHooks hooks;
    hooks.on_gradients = [&](int64_t, at::Tensor& grads) { gradients.push_back(grads.clone()); };
    RecordingSink sink;
    ASSERT_EQ(RunOne(options, sink, hooks), ExitCode::kDone);
  }
  EXPECT_LT((gradients[0] - gradients[1]).norm().item<double>(), 1e-5 * gradients[0].norm().item<double>());
}

TEST_F(ExactReductionTest, RefusesWhatCannotBeExact) {
  const auto reason = [&](auto change) {
    TrainOptions options = Options("exact-refused");
    change(options);
    return std::string(Validate(options).message());
  };
  EXPECT_THAT(reason([](TrainOptions& o) { o.spec.leaves = 3; }), HasSubstr("training.shards is 3; a power of two"));
  EXPECT_THAT(reason([](TrainOptions& o) { o.spec.leaves = 16; }), HasSubstr("training.shards is 16"));
  EXPECT_THAT(reason([](TrainOptions& o) { o.place.world_size = 5; }), HasSubstr("5 devices for training.shards 4"));
  EXPECT_THAT(reason([](TrainOptions& o) { o.spec.microbatch = 1; }), HasSubstr("leave it out"));
  EXPECT_THAT(reason([](TrainOptions& o) { o.place.threads = 0; }), HasSubstr("resources.threads is 0"));
}

}  // namespace
}  // namespace p2::trainer
