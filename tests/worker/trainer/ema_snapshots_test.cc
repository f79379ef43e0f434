// Snapshots of a run's averages, and what is made of them.
#include "worker/trainer/ema_snapshots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <vector>

#include "common/safetensors/safetensors.h"
#include "common/spec/power_ema.h"
#include "tests/worker/trainer/tiny_run.h"
#include "worker/trainer/ema_reconstruction.h"

namespace p2::trainer {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class EmaSnapshotsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    data_ = FreshDir("data");
    MakeTinyDataset(data_);
  }

  // Averages of sigma_rel 0.05 and 0.10, a snapshot every 12 images.
  TrainOptions Options(const std::string& name = "out") {
    TrainOptions options = TinyOptions(data_, FreshDir(name));
    options.spec.emas = {{"0.9", 0.9, true},
                         {.name = "s0.05", .gamma = spec::PowerEmaGamma(0.05)},
                         {.name = "s0.1", .gamma = spec::PowerEmaGamma(0.10)}};
    options.spec_json =
        R"({"training": {"batch": 6}, "ema": [{"name": "0.9", "rate": 0.9}, {"name": "s0.05", "sigmaRel": 0.05},
           {"name": "s0.1", "sigmaRel": 0.1}]})";
    options.spec.snapshot_every_images = 12;
    return options;
  }

  static std::vector<std::string> Snapshots(const TrainOptions& options) {
    std::vector<std::string> names = checkpoint::ListCheckpoints(RunDirectory(options) + "/ema-snapshots");
    std::reverse(names.begin(), names.end());
    return names;
  }

  std::string data_;
};

// Every float of a file of tensors, in its order.
at::Tensor Values(const std::string& path) {
  auto reader = safetensors::Reader::Open(path);
  EXPECT_TRUE(reader.ok()) << reader.status();
  std::vector<at::Tensor> tensors;
  if (!reader.ok()) return at::zeros({0}, at::kDouble);
  for (const safetensors::TensorInfo& info : (*reader)->tensors()) {
    at::Tensor tensor = at::empty({static_cast<int64_t>(info.size / sizeof(float))}, at::kFloat);
    EXPECT_TRUE((*reader)->Read(info.name, {static_cast<std::byte*>(tensor.data_ptr()), info.size}).ok());
    tensors.push_back(tensor.to(at::kDouble));
  }
  return at::cat(tensors);
}

double Distance(const at::Tensor& a, const at::Tensor& b) { return (a - b).norm().item<double>(); }

TEST_F(EmaSnapshotsTest, HoldThePowerFunctionAveragesAtEachIntervalAndTheEnd) {
  TrainOptions options = Options();
  options.spec.images = 42;
  options.spec.checkpoint_every_images = 24;
  GangRun run(2);
  RunRanks(options, {}, &run);
  ASSERT_THAT(run.exit_codes, ElementsAre(ExitCode::kDone, ExitCode::kDone));
  EXPECT_THAT(run.sinks[0].Reasons(), IsEmpty());
  EXPECT_THAT(Snapshots(options),
              ElementsAre("000000000012-e1", "000000000024-e1", "000000000036-e1", "000000000042-e1"));
  for (const int64_t images : {24, 42}) {
    const std::string name = checkpoint::DirectoryName(images, 1);
    const auto snapshot = checkpoint::Checkpoint::Open(absl::StrCat(RunDirectory(options), "/ema-snapshots/", name));
    ASSERT_TRUE(snapshot.ok()) << snapshot.status();
    EXPECT_EQ((*snapshot)->state().updates, images / 6);
    EXPECT_THAT((*snapshot)->manifest().ema_profiles, ElementsAre("s0.05", "s0.1"));
    std::map<std::string, std::string> digests;
    for (const checkpoint::FileEntry& file : (*snapshot)->manifest().files) digests[file.path] = file.sha256;
    EXPECT_EQ(digests.size(), 4u) << "two averages, the state, the spec";
    const std::map<std::string, std::string> whole = TensorDigests(options, images);
    EXPECT_EQ(digests["ema_s0.05.safetensors"], whole.at("ema_s0.05.safetensors"));
    EXPECT_EQ(digests["ema_s0.1.safetensors"], whole.at("ema_s0.1.safetensors"));
  }
}

TEST_F(EmaSnapshotsTest, ChangeNoBitOfTheRun) {
  TrainOptions with = Options("with"), without = Options("without");
  with.spec.snapshot_every_images = 6;
  without.spec.snapshot_every_images = 0;
  RecordingSink one, two;
  ASSERT_EQ(RunOne(with, one), ExitCode::kDone);
  ASSERT_EQ(RunOne(without, two), ExitCode::kDone);
  EXPECT_EQ(TensorDigests(with, 36), TensorDigests(without, 36));
  EXPECT_FALSE(fs::exists(RunDirectory(without) + "/ema-snapshots"));
}

TEST_F(EmaSnapshotsTest, AreThinnedToTheLimitByDoublingTheInterval) {
  TrainOptions options = Options();
  options.spec.images = 66;
  options.spec.snapshot_every_images = 6;
  options.spec.most_snapshots = 4;
  RecordingSink sink;
  ASSERT_EQ(RunOne(options, sink), ExitCode::kDone);
  // Eleven are due: every fourth, and the end.
  EXPECT_THAT(Snapshots(options), ElementsAre("000000000024-e1", "000000000048-e1", "000000000066-e1"));
  EXPECT_EQ(Snapshots(options).size(), static_cast<size_t>(spec::SnapshotsAtEnd(66, 6, 4)));
}

TEST_F(EmaSnapshotsTest, PastTheResumedPositionGiveWayToNewOnes) {
  TrainOptions options = Options();
  options.spec.checkpoint_every_images = 12;
  RecordingSink sink;
  ASSERT_EQ(RunOne(options, sink), ExitCode::kDone);
  ASSERT_TRUE(checkpoint::RemoveTree(CheckpointPath(options, 36)));
  ASSERT_TRUE(checkpoint::RemoveTree(CheckpointPath(options, 24)));
  const std::string stale = RunDirectory(options) + "/ema-snapshots/.tmp-000000000030-e1";
  fs::create_directories(stale);
  TrainOptions next = NextAttempt(options);
  RecordingSink rest;
  ASSERT_EQ(RunOne(next, rest), ExitCode::kDone);
  ASSERT_EQ(rest.Of<Started>().front().images_seen, 12);
  EXPECT_THAT(Snapshots(options), ElementsAre("000000000012-e1", "000000000024-e2", "000000000036-e2"));
  EXPECT_FALSE(fs::exists(stale));

  // A finished run that is started again has its last one.
  RecordingSink again;
  ASSERT_EQ(RunOne(NextAttempt(next), again), ExitCode::kDone);
  EXPECT_THAT(Snapshots(options), ElementsAre("000000000012-e1", "000000000024-e2", "000000000036-e2"));
}

TEST_F(EmaSnapshotsTest, PastARollbackAreRemoved) {
  TrainOptions options = Options();
  options.spec.images = 60;
  options.spec.checkpoint_every_images = 12;
  options.spec.snapshot_every_images = 6;
  TrainerHooks hooks;
  std::vector<std::vector<std::string>> at_step;
  hooks.on_gradients = [](int64_t first_sample, at::Tensor& grads) {
    if (first_sample >= 18 && first_sample < 36) grads[5] = std::numeric_limits<float>::quiet_NaN();
  };
  std::vector<int64_t> positions;
  hooks.on_step = [&](int64_t images) {
    positions.push_back(images);
    at_step.push_back(Snapshots(options));
  };
  RecordingSink sink;
  ASSERT_EQ(RunOne(options, sink, hooks), ExitCode::kDone);
  ASSERT_THAT(sink.Reasons(), ElementsAre("DATA_SKIPPED"));
  for (size_t i = 1; i < positions.size(); ++i) {
    if (positions[i] > positions[i - 1]) continue;
    for (const std::string& name : at_step[i]) {
      int64_t images = 0, epoch = 0;
      ASSERT_TRUE(checkpoint::ParseDirectoryName(name, &images, &epoch));
      EXPECT_LE(images, positions[i]) << "after the rollback";
    }
  }
  // It went back to 24, so 30 is gone, and passed over what lies before 36; nothing is there twice.
  std::vector<std::string> expected;
  for (const int64_t images : {6, 12, 18, 24, 42, 48, 54, 60}) expected.push_back(checkpoint::DirectoryName(images, 1));
  EXPECT_EQ(Snapshots(options), expected);
}

TEST_F(EmaSnapshotsTest, OfACutOffEpochAreReplacedAndNeverRead) {
  TrainOptions options = Options();
  options.spec.checkpoint_every_images = 12;
  RecordingSink sink;
  ASSERT_EQ(RunOne(options, sink), ExitCode::kDone);
  for (const int64_t images : {24, 36}) ASSERT_TRUE(checkpoint::RemoveTree(CheckpointPath(options, images)));
  // Epoch 1 writes on after epoch 2 has begun: its files appear behind the back of the one that goes on.
  const std::string directory = RunDirectory(options) + "/ema-snapshots/", aside = RunDirectory(options) + "/aside-";
  for (const char* name : {"000000000024-e1", "000000000036-e1"}) fs::rename(directory + name, aside + name);
  TrainerHooks hooks;
  hooks.on_step = [&](int64_t images) {
    if (images != 18) return;
    for (const char* name : {"000000000024-e1", "000000000036-e1"}) fs::rename(aside + name, directory + name);
  };
  TrainOptions next = NextAttempt(options);
  next.spec.images = 30;
  RecordingSink rest;
  ASSERT_EQ(RunOne(next, rest, hooks), ExitCode::kDone);
  EXPECT_THAT(Snapshots(options),
              ElementsAre("000000000012-e1", "000000000024-e2", "000000000030-e2", "000000000036-e1"));
  const auto made = ReconstructEmaFile(
      {.snapshots = directory, .sigma_rel = 0.05, .out = RunDirectory(options) + "/average.safetensors"});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->images_seen, 30);
  EXPECT_EQ(made->snapshots, 3u);
}

TEST_F(EmaSnapshotsTest, ThatCannotBeWrittenAreANotice) {
  TrainOptions options = Options();
  std::ofstream(RunDirectory(options) + "/ema-snapshots") << "a file where the directory should be";
  RecordingSink sink;
  EXPECT_EQ(RunOne(options, sink), ExitCode::kDone);
  EXPECT_THAT(sink.Reasons(), ElementsAre("EMA_SNAPSHOT_FAILED", "EMA_SNAPSHOT_FAILED", "EMA_SNAPSHOT_FAILED"));
}

class EmaReconstructionTest : public EmaSnapshotsTest {
 protected:
  static constexpr int kSteps = 160;
  static constexpr int kBatch = 6;

  // A run that keeps the weights of every step in checkpoints and has 16 snapshots.
  TrainOptions DenseRun() {
    TrainOptions options = Options();
    options.spec.images = kSteps * kBatch;
    options.spec.checkpoint_every_images = kBatch;
    options.spec.snapshot_every_images = 10 * kBatch;
    options.spec.log_every_images = options.spec.images;
    RecordingSink sink;
    EXPECT_EQ(RunOne(options, sink), ExitCode::kDone);
    EXPECT_EQ(Snapshots(options).size(), 16u);
    return options;
  }
};

TEST_F(EmaReconstructionTest, IsTheDenseAverageOfTheSameProfile) {
  const TrainOptions options = DenseRun();
  std::vector<at::Tensor> weights;  // After each update.
  for (int step = 1; step <= kSteps; ++step)
    weights.push_back(Values(CheckpointPath(options, step * kBatch) + "/model.safetensors"));
  ASSERT_GT(Distance(weights.front(), weights.back()), 0.5) << "the weights hardly moved";

  for (const double sigma_rel : {0.07, 0.12}) {
    for (const int at : {kSteps, kSteps - 30, kSteps - 35}) {  // The last is no snapshot's position.
      EmaReconstructionOptions wanted{.snapshots = RunDirectory(options), .at_images = at * kBatch};
      wanted.sigma_rel = sigma_rel;
      wanted.out = RunDirectory(options) + "/ema.safetensors";
      const auto report = ReconstructEmaFile(wanted);
      ASSERT_TRUE(report.ok()) << report.status();
      EXPECT_EQ(report->updates, at);
      EXPECT_EQ(report->snapshots, 16u);
      EXPECT_THAT(report->profiles, ElementsAre("s0.05", "s0.1"));

      const double power = spec::PowerEmaGamma(sigma_rel) + 1;
      at::Tensor dense = at::zeros_like(weights[0]);
      for (int i = 1; i <= at; ++i) {
        const double share = std::pow(static_cast<double>(i) / at, power) - std::pow((i - 1.0) / at, power);
        dense.add_(weights[i - 1], share);
      }
      const double error = Distance(Values(wanted.out), dense);

      // The error is the sum over all steps of (error of the share) * (w_i - w), as the shares' errors add up to 0: at
      // most the residual times the spread of the weights (Cauchy-Schwarz). Besides, what was stored is rounded: a
      // step's lerp adds 2^-24 of the weights, and an average remembers about kSteps * sigma_rel steps.
      const at::Tensor mean = at::stack(weights).mean(0);
      double spread = 0;
      for (const at::Tensor& w : weights) spread += (w - mean).square().sum().item<double>();
      const double solve = report->residual * report->shares_norm * std::sqrt(spread);
      const double rounding = report->noise_gain * std::ldexp(kSteps * 0.1, -24) * mean.norm().item<double>();
      EXPECT_LE(error, solve + rounding) << sigma_rel << " at " << at;

      double nearest = 1e9;
      for (const char* profile : {"s0.05", "s0.1"}) {
        const std::string file = absl::StrCat("/ema_", profile, ".safetensors");
        nearest = std::min(nearest, Distance(Values(CheckpointPath(options, at * kBatch) + file), dense));
      }
      RecordProperty(absl::StrCat("error_", sigma_rel, "_", at), absl::StrCat(error));
      std::printf("sigma_rel %g at %d: error %.3g, bound %.3g + %.3g, nearest stored profile %.3g, residual %.3g\n",
                  sigma_rel, at, error, solve, rounding, nearest, report->residual);
      if (at != kSteps - 35) {
        EXPECT_LT(error, nearest / 100);
      } else {
        EXPECT_LT(error, nearest);
      }
    }
  }
}

TEST_F(EmaReconstructionTest, PassesOverDamagedSnapshotsAndSaysSo) {
  TrainOptions options = Options();
  options.spec.images = 60;
  RecordingSink sink;
  ASSERT_EQ(RunOne(options, sink), ExitCode::kDone);
  const std::string bad = RunDirectory(options) + "/ema-snapshots/000000000024-e1/ema_s0.1.safetensors";
  fs::resize_file(bad, fs::file_size(bad) - 4);
  EmaReconstructionOptions wanted{.snapshots = options.checkpoint_dir, .sigma_rel = 0.07};
  wanted.out = RunDirectory(options) + "/ema.safetensors";
  const auto report = ReconstructEmaFile(wanted);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->images_seen, 60);
  EXPECT_EQ(report->snapshots, 4u);
  EXPECT_THAT(report->passed_over, ElementsAre(HasSubstr("ema_s0.1.safetensors")));
}

TEST_F(EmaReconstructionTest, RefusesWhatTheSnapshotsCannotGive) {
  TrainOptions options = Options();
  RecordingSink sink;
  ASSERT_EQ(RunOne(options, sink), ExitCode::kDone);
  const auto message = [&](EmaReconstructionOptions wanted) {
    wanted.out = RunDirectory(options) + "/ema.safetensors";
    const auto report = ReconstructEmaFile(wanted);
    EXPECT_FALSE(fs::exists(wanted.out));
    return std::string(report.status().message());
  };
  const std::string dir = RunDirectory(options);
  EXPECT_THAT(message({.snapshots = dir, .at_images = 37, .sigma_rel = 0.07}),
              HasSubstr("the average at 37 images is wanted; the snapshots can give 1 to 36"));
  EXPECT_THAT(message({.snapshots = dir, .sigma_rel = 0.5}), HasSubstr("sigma_rel is 0.5; must be 0.001 to 0.288"));
  EXPECT_THAT(message({.snapshots = data_, .sigma_rel = 0.07}), HasSubstr("holds no snapshots of averages"));
}

}  // namespace
}  // namespace p2::trainer
