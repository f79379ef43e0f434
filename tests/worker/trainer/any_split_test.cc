// The same run on any number of ranks and in any microbatches (TRAINING.md 1 to 3), and in bf16 (5).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "absl/synchronization/mutex.h"
#include "tests/worker/trainer/tiny_run.h"
#include "worker/trainer/run_state.h"

namespace p2::trainer {
namespace {

using ::testing::Each;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class AnySplitTest : public ::testing::Test {
 protected:
  void SetUp() override {
    data_ = FreshDir("data");
    MakeTinyDataset(data_);
  }
  TrainOptions Options(const std::string& name) {
    TrainOptions options = TinyOptions(data_, FreshDir(name));
    options.spec.batch = 8;
    options.spec.images = 24;
    return options;
  }
  // Runs to options.spec.images; rank 0's points.
  std::vector<MetricPoints> Train(const TrainOptions& options, int ranks, const TrainerHooks& hooks = {}) {
    GangRun run(ranks);
    RunRanks(options, {hooks}, &run);
    EXPECT_THAT(run.exit_codes, Each(ExitCode::kDone));
    EXPECT_THAT(run.sinks[0].Reasons(), IsEmpty());
    return run.sinks[0].Of<MetricPoints>();
  }

  std::string data_;
};

// What a sample was trained with, whoever did it.
struct Sample {
  at::Tensor x0, t, noise;  // Image and flip are in x0.
  uint64_t dropout = 0;     // The sample whose mask it got.
};

TEST_F(AnySplitTest, EverySampleHasItsImageFlipTimestepNoiseAndDropout) {
  std::map<int64_t, Sample> expected;
  for (const int ranks : {1, 2, 3, 4}) {
    for (const int microbatch : {0, 1, 2, 3, 8}) {
      SCOPED_TRACE(absl::StrCat(ranks, " ranks, microbatch ", microbatch));
      TrainOptions options = Options(absl::StrCat(ranks, "-", microbatch));
      options.spec.microbatch = microbatch;
      std::map<int64_t, Sample> seen;
      absl::Mutex mutex;
      int64_t most = 0;
      TrainerHooks hooks;
      hooks.on_microbatch = [&](const Microbatch& taken) {
        absl::MutexLock lock(&mutex);
        most = std::max(most, taken.x0.size(0));
        for (int64_t i = 0; i < taken.x0.size(0); ++i) {
          const Sample sample{taken.x0[i].clone(), taken.t[i].clone(), taken.noise[i].clone(),
                              taken.dropout_sample + static_cast<uint64_t>(i)};
          EXPECT_TRUE(seen.emplace(taken.first_sample + i, sample).second) << "sample trained on twice";
        }
      };
      Train(options, ranks, hooks);
      ASSERT_THAT(seen, SizeIs(24));
      EXPECT_LE(most, microbatch > 0 ? microbatch : 8);
      if (expected.empty()) expected = seen;
      for (const auto& [g, sample] : seen) {
        ASSERT_TRUE(expected.contains(g)) << g;
        EXPECT_TRUE(at::equal(sample.x0, expected[g].x0)) << g;
        EXPECT_TRUE(at::equal(sample.t, expected[g].t)) << g;
        EXPECT_TRUE(at::equal(sample.noise, expected[g].noise)) << g;
        EXPECT_EQ(sample.dropout, static_cast<uint64_t>(g));
      }
    }
  }
  EXPECT_FALSE(at::equal(expected[0].x0, expected[1].x0));
  EXPECT_FALSE(at::equal(expected[0].noise, expected[8].noise));
}

std::unique_ptr<RunState> StateAfter(const TrainOptions& options) {
  auto state = std::make_unique<RunState>(options.spec, at::kCPU);
  const auto checkpoint = checkpoint::Checkpoint::Open(CheckpointPath(options, options.spec.images));
  EXPECT_TRUE(checkpoint.ok() && state->Load(**checkpoint).ok());
  return state;
}

// Its gradient is 0 in exact arithmetic, and AdamW makes steps of the rounding: a bias in front of a norm of one
// channel a group, and the keys' bias, which softmax does not see.
bool Degenerate(const std::string& name) {
  return absl::EndsWith(name, "in_layers.2.bias") || absl::EndsWith(name, "qkv.bias");
}

TEST_F(AnySplitTest, FastStaysWithinItsRoundingBand) {
  at::Tensor moved_on_one;
  for (const int ranks : {1, 2, 3, 4}) {
    TrainOptions options = Options(absl::StrCat("band-", ranks));
    options.spec.images = 160;  // 20 steps.
    Train(options, ranks);
    const auto start = std::make_unique<RunState>(options.spec, at::kCPU), end = StateAfter(options);
    std::vector<at::Tensor> parts;
    for (const optim::FlatView& view : start->flat().layout().views()) {
      if (Degenerate(view.name)) continue;
      parts.push_back((start->flat().layout().View(end->flat().params(), view) -
                       start->flat().layout().View(start->flat().params(), view))
                          .flatten());
    }
    const at::Tensor moved = at::cat(parts);
    if (ranks == 1) moved_on_one = moved;
    const double length = moved_on_one.norm().item<double>();
    EXPECT_GT(length, 0);
    const double difference = (moved - moved_on_one).norm().item<double>();
    RecordProperty(absl::StrCat("band_", ranks), absl::StrCat(difference / length));
    EXPECT_LE(difference / length, 5e-3) << ranks << " ranks";
    EXPECT_EQ(difference == 0, ranks == 1);
  }
}

class Bf16RunTest : public AnySplitTest {
 protected:
  TrainOptions Options(const std::string& name, spec::Precision precision = spec::Precision::kBf16) {
    TrainOptions options = AnySplitTest::Options(name);
    options.spec.precision = precision;
    return options;
  }
};

TEST_F(Bf16RunTest, LearnsAsFp32Does) {
  std::vector<std::vector<MetricPoints>> curves;
  for (const spec::Precision precision : {spec::Precision::kFp32, spec::Precision::kBf16}) {
    TrainOptions options = Options(absl::StrCat("curve-", curves.size()), precision);
    options.spec.images = 400;
    options.spec.log_every_images = 80;
    curves.push_back(Train(options, 1));
  }
  ASSERT_EQ(curves[0].size(), 5u);
  ASSERT_EQ(curves[1].size(), 5u);
  for (size_t i = 0; i < curves[0].size(); ++i) {
    const double fp32 = curves[0][i].values.at("loss"), bf16 = curves[1][i].values.at("loss");
    EXPECT_NEAR(bf16, fp32, 0.01 * fp32) << i;
    EXPECT_NE(bf16, fp32) << i;
  }
  EXPECT_LT(curves[1].back().values.at("loss"), 0.3 * curves[1].front().values.at("loss"));
}

TEST_F(Bf16RunTest, ResumesInTheSameBitsFromFp32Weights) {
  for (const int ranks : {1, 2}) {
    const TrainOptions whole = Options(absl::StrCat("whole-", ranks));
    Train(whole, ranks);
    TrainOptions parts = Options(absl::StrCat("parts-", ranks));
    parts.spec.images = 16;
    Train(parts, ranks);
    parts = NextAttempt(parts);
    parts.spec.images = 24;
    Train(parts, ranks);
    EXPECT_EQ(TensorDigests(parts, 24), TensorDigests(whole, 24)) << ranks << " ranks";
    const at::Tensor weights = StateAfter(parts)->flat().params();
    const at::Tensor kept = weights.to(at::kBFloat16).to(at::kFloat) == weights;
    EXPECT_LT(kept.to(at::kFloat).mean().item<float>(), 0.5) << "the weights have no more bits than bf16";
  }
}

TEST_F(Bf16RunTest, ExactGivesTheSameBitsOnOneToFourRanks) {
  std::map<std::string, std::string> expected;
  for (const int ranks : {1, 2, 4}) {
    TrainOptions options = Options(absl::StrCat("exact-", ranks));
    options.spec.leaves = 4;
    Train(options, ranks);
    if (ranks == 1) expected = TensorDigests(options, 24);
    EXPECT_EQ(TensorDigests(options, 24), expected) << ranks << " ranks";
  }
  TrainOptions fp32 = Options("exact-fp32", spec::Precision::kFp32);
  fp32.spec.leaves = 4;
  Train(fp32, 1);
  EXPECT_NE(TensorDigests(fp32, 24), expected);
}

TEST_F(Bf16RunTest, RecomputingBlocksChangesNoBit) {
  TrainOptions kept = Options("kept"), again = Options("again");
  again.spec.model.activation_recompute = true;
  for (const TrainOptions& options : {kept, again}) Train(options, 2);
  EXPECT_EQ(TensorDigests(kept, 24), TensorDigests(again, 24));
}

}  // namespace
}  // namespace p2::trainer
