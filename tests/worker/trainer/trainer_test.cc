#include "worker/trainer/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "absl/synchronization/notification.h"
#include "tests/worker/trainer/tiny_run.h"
#include "worker/trainer/run_state.h"

namespace p2::trainer {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class TrainerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    data_ = FreshDir("data");
    MakeTinyDataset(data_);
  }
  TrainOptions Options(const std::string& name = "out") { return TinyOptions(data_, FreshDir(name)); }

  std::string data_;
};

// A run that is asked to stop after `steps` steps: where it stopped.
int64_t StopAfter(const TrainOptions& options, int ranks, int64_t steps) {
  std::atomic<bool> stop{false};
  std::atomic<int> stopping{0};
  absl::Notification all_stopping;
  TrainerHooks hooks;
  hooks.stop = &stop;
  hooks.on_step = [&](int64_t images) {
    if (images >= steps * options.spec.batch) stop = true;
    if (!stop) return;
    EXPECT_TRUE(all_stopping.WaitForNotificationWithTimeout(absl::Seconds(30)));
  };
  hooks.on_stopping = [&] {
    if (++stopping == ranks) all_stopping.Notify();
  };
  GangRun run(ranks);
  RunRanks(options, {hooks}, &run);
  EXPECT_THAT(run.exit_codes, Each(ExitCode::kStopped));
  for (RecordingSink& sink : run.sinks) {
    EXPECT_EQ(sink.Of<Finished>().back().outcome, Finished::Outcome::kStopped);
  }
  return run.sinks[0].Of<Finished>().back().images_seen;
}

class ResumeTest : public TrainerTest, public ::testing::WithParamInterface<int> {};

TEST_P(ResumeTest, EndsInTheSameBitsAsTheUninterruptedRun) {
  TrainOptions whole = Options("whole"), parts = Options("parts");
  whole.spec.microbatch = parts.spec.microbatch = 2;
  whole.spec.images = parts.spec.images = 60;
  GangRun run(GetParam());
  RunRanks(whole, {}, &run);
  ASSERT_THAT(run.exit_codes, Each(ExitCode::kDone));
  EXPECT_EQ(run.sinks[0].Of<Finished>().back().images_seen, 60);

  const int64_t stopped_at = StopAfter(parts, GetParam(), 3);
  EXPECT_GE(stopped_at, 18);
  EXPECT_LT(stopped_at, 60);
  parts = NextAttempt(parts);
  GangRun rest(GetParam());
  RunRanks(parts, {}, &rest);
  ASSERT_THAT(rest.exit_codes, Each(ExitCode::kDone));
  EXPECT_EQ(rest.sinks[0].Of<Started>().back().images_seen, stopped_at);
  EXPECT_THAT(rest.sinks[0].Reasons(), IsEmpty());
  EXPECT_EQ(TensorDigests(whole, 60), TensorDigests(parts, 60));
  // The curve goes on as if nothing had happened, the interval that the stop fell into included.
  const auto points = run.sinks[0].Of<MetricPoints>(), resumed = rest.sinks[0].Of<MetricPoints>();
  ASSERT_FALSE(resumed.empty());
  for (size_t i = 0; i < resumed.size(); ++i) {
    const MetricPoints& expected = points[points.size() - resumed.size() + i];
    ASSERT_EQ(resumed[i].images_seen, expected.images_seen);
    EXPECT_NEAR(resumed[i].values.at("loss"), expected.values.at("loss"), 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, ResumeTest, ::testing::Values(1, 2, 4));

TEST_F(TrainerTest, TrainsOnTheSameImagesFlipsTimestepsAndNoiseOnAnyNumberOfRanks) {
  at::Tensor gradient_of_one;
  for (int ranks : {1, 2, 3}) {
    TrainOptions options = Options(absl::StrCat("ranks", ranks));
    options.spec.images = 12;
    std::vector<at::Tensor> gradients;
    TrainerHooks first, others;
    first.on_gradients = [&](int64_t first_sample, at::Tensor& grads) { gradients.push_back(grads.clone()); };
    GangRun run(ranks);
    RunRanks(options, {first, others}, &run);
    ASSERT_THAT(run.exit_codes, Each(ExitCode::kDone));
    ASSERT_THAT(gradients, SizeIs(2));
    if (ranks == 1) gradient_of_one = gradients[0];
    const double scale = gradient_of_one.norm().item<double>();
    EXPECT_LT((gradients[0] - gradient_of_one).norm().item<double>(), 1e-5 * scale) << ranks << " ranks";
    EXPECT_GT(scale, 0);
  }
}

TEST_F(TrainerTest, CountsAWeightedMicrobatchAsItsSamples) {
  std::vector<at::Tensor> gradients;
  for (int microbatch : {0, 4}) {
    TrainOptions options = Options(absl::StrCat("micro", microbatch));
    options.spec.images = 6;
    options.spec.microbatch = microbatch;
    TrainerHooks hooks;
    hooks.on_gradients = [&](int64_t, at::Tensor& grads) { gradients.push_back(grads.clone()); };
    RecordingSink sink;
    ASSERT_EQ(RunOne(options, sink, hooks), ExitCode::kDone);
  }
  EXPECT_LT((gradients[0] - gradients[1]).norm().item<double>(), 1e-5 * gradients[0].norm().item<double>());
}

// What a run ended with.
std::unique_ptr<RunState> StateAfter(const TrainOptions& options, int64_t images) {
  auto state = std::make_unique<RunState>(options.spec, at::kCPU);
  const auto checkpoint = checkpoint::Checkpoint::Open(CheckpointPath(options, images));
  EXPECT_TRUE(checkpoint.ok() && state->Load(**checkpoint).ok());
  return state;
}

TEST_F(TrainerTest, AnnealsTheLearningRateWithoutLag) {
  for (const bool anneal : {false, true}) {
    TrainOptions options = Options(anneal ? "anneal" : "constant");
    options.spec.images = 12;  // Two steps: 1 and, annealed, 1/2 of the rate.
    options.spec.anneal_linearly = anneal;
    options.spec.beta1 = options.spec.beta2 = 0;  // Each step then moves a parameter by the rate, up or down.
    options.spec.epsilon = 1e-30;
    RecordingSink sink;
    ASSERT_EQ(RunOne(options, sink), ExitCode::kDone);
    const at::Tensor start = RunState(options.spec, at::kCPU).flat().params();
    const at::Tensor moved = (StateAfter(options, 12)->flat().params() - start).abs().div(options.spec.learning_rate);
    const double farthest = moved.max().item<double>();
    EXPECT_NEAR(farthest, anneal ? 1.5 : 2.0, 1e-3);
    const at::Tensor same_way = moved.gt(anneal ? 1.4 : 1.9);
    EXPECT_GT(same_way.sum().item<int64_t>(), 100);
  }
}

TEST_F(TrainerTest, ClipsTheGradientToItsLargestNorm) {
  std::vector<double> lengths;
  for (const double largest : {0.0, 1e-3, 1e9}) {
    TrainOptions options = Options(absl::StrCat("clip", largest));
    options.spec.images = 6;
    options.spec.clip_grad_norm = largest;
    RecordingSink sink;
    ASSERT_EQ(RunOne(options, sink), ExitCode::kDone);
    EXPECT_GT(sink.Of<MetricPoints>().back().values.at("grad_norm"), 1e-2);  // As it was before.
    lengths.push_back(StateAfter(options, 6)->adamw().m().norm().item<double>() / (1 - options.spec.beta1));
  }
  EXPECT_GT(lengths[0], 1e-2);
  EXPECT_NEAR(lengths[1], 1e-3, 1e-6);
  EXPECT_EQ(lengths[2], lengths[0]);
}

TEST_F(TrainerTest, ReportsMetricsOfEachIntervalOnce) {
  TrainOptions options = Options();
  options.spec.images = 30;
  RecordingSink sink;
  ASSERT_EQ(RunOne(options, sink), ExitCode::kDone);
  const auto points = sink.Of<MetricPoints>();
  std::vector<int64_t> images;
  for (const MetricPoints& point : points) images.push_back(point.images_seen);
  EXPECT_THAT(images, ElementsAre(12, 24, 30));
  const auto& values = points[0].values;
  EXPECT_EQ(points[0].step, 2);
  EXPECT_NEAR(values.at("loss"), values.at("mse_weighted") + values.at("vb"), 1e-6);
  EXPECT_GT(values.at("mse"), values.at("mse_weighted"));
  EXPECT_GT(values.at("grad_norm"), 0);
  EXPECT_GT(values.at("images_per_second"), 0);
  double phases = 0;
  for (const char* phase : {"data", "forward_backward", "optimizer", "ema", "other"}) {
    phases += values.at(absl::StrCat("step_seconds_", phase));
  }
  EXPECT_NEAR(phases, values.at("step_seconds"), 1e-6);
  EXPECT_GT(values.at("step_seconds_forward_backward"), 0.1 * values.at("step_seconds"));
  EXPECT_EQ(values.at("nonfinite_steps"), 0);
  double samples = 0, share = 0, weighted_mean = 0;
  for (const auto& [name, value] : values) {
    if (name.rfind("count_snr_", 0) == 0) {
      samples += value;
      weighted_mean += value * values.at("loss_snr_" + name.substr(10));
    }
    if (name.rfind("weighted_share_snr_", 0) == 0) share += value;
  }
  EXPECT_EQ(samples, 12);
  EXPECT_NEAR(share, 1, 1e-9);
  EXPECT_NEAR(weighted_mean / samples, values.at("mse"), 1e-6);
}

TEST_F(TrainerTest, ReportsTheTimesOfACheckpointOnce) {
  TrainOptions options = Options();
  options.spec.checkpoint_every_images = 12;
  RecordingSink sink;
  TrainerHooks hooks;
  hooks.on_step = [&](int64_t images) {
    // The row of 24 images comes after this.
    if (images != 24) return;
    EXPECT_TRUE(sink.Await<CheckpointSaved>(1));
  };
  ASSERT_EQ(RunOne(options, sink, hooks), ExitCode::kDone);
  const auto points = sink.Of<MetricPoints>();
  ASSERT_THAT(points, SizeIs(3));
  EXPECT_FALSE(points[0].values.contains("checkpoint_stall_seconds"));
  EXPECT_GT(points[1].values.at("checkpoint_stall_seconds"), 0);
  EXPECT_GT(points[1].values.at("checkpoint_durable_lag_seconds"), 0);
}

TEST_F(TrainerTest, ReportsTheSameLossOnTwoRanksAsOnOne) {
  std::vector<double> loss;
  for (int ranks : {1, 2}) {
    TrainOptions options = Options(absl::StrCat("ranks", ranks));
    options.spec.images = 12;
    GangRun run(ranks);
    RunRanks(options, {}, &run);
    loss.push_back(run.sinks[0].Of<MetricPoints>().at(0).values.at("loss"));
    if (ranks == 2) {
      EXPECT_THAT(run.sinks[1].Of<MetricPoints>(), IsEmpty());
    }
  }
  EXPECT_NEAR(loss[0], loss[1], 1e-5 * loss[0]);
}

TEST_F(TrainerTest, ChangesNoTrainingBitByPreviews) {
  TrainOptions without = Options("without"), with = Options("with");
  with.spec.preview_every_images = 12;
  with.spec.checkpoint_every_images = 12;
  GangRun plain(2), drawn(2);
  RunRanks(without, {}, &plain);
  RunRanks(with, {}, &drawn);
  ASSERT_THAT(drawn.exit_codes, Each(ExitCode::kDone));
  EXPECT_EQ(TensorDigests(without, 36), TensorDigests(with, 36));
  std::vector<std::string> files;
  for (const ArtifactWritten& artifact : drawn.sinks[0].Of<ArtifactWritten>()) {
    files.push_back(artifact.file_name);
    EXPECT_GT(fs::file_size(with.work_dir + "/" + artifact.file_name), 100u);
  }
  EXPECT_THAT(files, ElementsAre("samples-000000012.png", "samples-000000024.png", "samples-000000036.png"));
}

TEST_F(TrainerTest, FallsBackFromADamagedCheckpointAndSaysSo) {
  TrainOptions options = Options();
  options.spec.checkpoint_every_images = 12;
  RecordingSink sink;
  ASSERT_EQ(RunOne(options, sink), ExitCode::kDone);
  EXPECT_THAT(sink.Of<CheckpointSaved>(), SizeIs(3));
  EXPECT_EQ(sink.Of<CheckpointSaved>()[0].path, "checkpoints/000000000012-e1");
  const auto digests = TensorDigests(options, 36);
  const std::string newest = CheckpointPath(options, 36) + "/optimizer.safetensors";
  std::fstream file(newest, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(fs::file_size(newest)) - 5);
  file.put('x');
  file.close();

  options = NextAttempt(options);
  RecordingSink again;
  ASSERT_EQ(RunOne(options, again), ExitCode::kDone);
  EXPECT_THAT(again.Reasons(), ElementsAre("CHECKPOINT_CORRUPT"));
  EXPECT_THAT(again.Of<Notice>()[0].message, HasSubstr("optimizer.safetensors is damaged"));
  EXPECT_EQ(again.Of<Started>()[0].images_seen, 24);
  EXPECT_EQ(TensorDigests(options, 36), digests);
}

TEST_F(TrainerTest, KeepsTheNewestCheckpointsWhereItPrunesAndClearsWhatAnOlderEpochLeft) {
  TrainOptions options = Options();
  options.epoch = 2;
  options.spec.checkpoint_every_images = 6;
  options.spec.keep_last = 2;
  options.prune_checkpoints = true;
  const std::string leftover = options.checkpoint_dir + "/.tmp-000000000006-e1";
  fs::create_directories(leftover);
  std::ofstream(leftover + "/model.safetensors") << "half";
  options.resume_candidates.clear();
  RecordingSink sink;
  ASSERT_EQ(RunOne(options, sink), ExitCode::kDone);
  EXPECT_THAT(checkpoint::ListCheckpoints(options.checkpoint_dir), ElementsAre("000000000036-e2", "000000000030-e2"));
  EXPECT_FALSE(fs::exists(leftover));
}

TEST_F(TrainerTest, RefusesToStartAnewWhenNoCheckpointIsGood) {
  TrainOptions options = Options();
  options.resume_candidates = {"000000000012-e1"};
  RecordingSink away, damaged;
  // The directory may be back tomorrow: that is no damage, and p2d hears of none.
  EXPECT_EQ(RunOne(options, away), ExitCode::kStorage);
  EXPECT_THAT(away.Reasons(), IsEmpty());
  EXPECT_THAT(away.Of<Finished>()[0].message, HasSubstr("directory of the checkpoints"));
  fs::create_directories(options.checkpoint_dir + "/000000000012-e1");
  EXPECT_EQ(RunOne(options, damaged), ExitCode::kStorage);
  EXPECT_THAT(damaged.Reasons(), ElementsAre("CHECKPOINT_CORRUPT"));
  EXPECT_THAT(damaged.Of<Finished>()[0].message, HasSubstr("none of 1 checkpoints"));
}

// Makes the gradients of the steps that begin with these samples not finite.
TrainerHooks Poison(std::vector<int64_t> samples, int* times = nullptr) {
  TrainerHooks hooks;
  hooks.on_gradients = [samples, times](int64_t first_sample, at::Tensor& grads) {
    if (std::find(samples.begin(), samples.end(), first_sample) == samples.end()) return;
    grads[5] = std::numeric_limits<float>::quiet_NaN();
    if (times != nullptr) ++*times;
  };
  return hooks;
}

TEST_F(TrainerTest, KeepsANonFiniteStepOutOfEverything) {
  TrainOptions options = Options();
  GangRun run(2);
  // Only rank 1, whose third step begins with sample 15, sees it: the ranks agree all the same.
  RunRanks(options, {TrainerHooks(), Poison({15})}, &run);
  ASSERT_THAT(run.exit_codes, Each(ExitCode::kDone));
  auto checkpoint = checkpoint::Checkpoint::Open(CheckpointPath(options, 36));
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_EQ((*checkpoint)->state().step, 6);
  EXPECT_EQ((*checkpoint)->state().updates, 5);
  double bad = 0;
  for (const MetricPoints& points : run.sinks[0].Of<MetricPoints>()) {
    bad += points.values.at("nonfinite_steps");
    for (const auto& [name, value] : points.values) EXPECT_TRUE(std::isfinite(value)) << name;
  }
  EXPECT_EQ(bad, 1);

  TrainOptions next = NextAttempt(options);
  next.spec.images = 42;
  TrainerHooks check;
  check.on_gradients = [](int64_t, at::Tensor& grads) { EXPECT_TRUE(at::isfinite(grads).all().item<bool>()); };
  RecordingSink sink;
  EXPECT_EQ(RunOne(next, sink, check), ExitCode::kDone);
}

TEST_F(TrainerTest, PassesOverThreeBadStepsInARowAfterGoingBack) {
  TrainOptions options = Options();
  options.spec.images = 60;
  options.spec.checkpoint_every_images = 12;
  int poisoned = 0;
  RecordingSink sink;
  ASSERT_EQ(RunOne(options, sink, Poison({18, 24, 30}, &poisoned)), ExitCode::kDone);
  EXPECT_EQ(poisoned, 3) << "the samples were trained on again";
  double bad = 0;
  for (const MetricPoints& points : sink.Of<MetricPoints>()) bad += points.values.at("nonfinite_steps");
  EXPECT_EQ(bad, 3) << "the rollback forgot them";
  const auto notices = sink.Of<Notice>();
  ASSERT_THAT(notices, SizeIs(1));
  EXPECT_EQ(notices[0].reason, "DATA_SKIPPED");
  ASSERT_THAT(notices[0].skipped, SizeIs(3));
  EXPECT_EQ(notices[0].skipped[0].begin, 18);
  EXPECT_EQ(notices[0].skipped[2].end, 36);
  auto checkpoint = checkpoint::Checkpoint::Open(CheckpointPath(options, 60));
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_THAT((*checkpoint)->state().skipped, ElementsAre(checkpoint::SampleRange{18, 36}));
  EXPECT_EQ((*checkpoint)->state().updates, 7);
  EXPECT_EQ((*checkpoint)->state().step, 10);

  // The next attempt hears of it even where its checkpoint is older.
  TrainOptions fresh = Options("fresh");
  fresh.spec.images = 60;
  fresh.skipped = {{18, 24}, {24, 30}, {30, 36}};
  RecordingSink other;
  ASSERT_EQ(RunOne(fresh, other), ExitCode::kDone);
  EXPECT_EQ(TensorDigests(fresh, 60), TensorDigests(options, 60));
}

TEST_F(TrainerTest, EndsAsNumericWhenRollingBackDoesNotHelp) {
  TrainOptions options = Options();
  options.spec.images = 600;
  options.spec.checkpoint_every_images = 12;
  std::vector<int64_t> all;
  for (int64_t g = 24; g < 600; g += 6) all.push_back(g);
  GangRun run(2);
  RunRanks(options, {Poison(all)}, &run);
  EXPECT_THAT(run.exit_codes, Each(ExitCode::kNumeric));
  EXPECT_THAT(run.sinks[0].Of<Finished>()[0].message, HasSubstr("after 2 rollbacks"));
  EXPECT_THAT(run.sinks[0].Reasons(), ElementsAre("DATA_SKIPPED", "DATA_SKIPPED"));
}

TEST_F(TrainerTest, EndsAsDataWhenAShardIsCutShortOrTheImagesChanged) {
  TrainOptions options = Options();
  options.dataset_fingerprint = std::string(64, '0');
  RecordingSink changed;
  EXPECT_EQ(RunOne(options, changed), ExitCode::kData);
  EXPECT_THAT(changed.Of<Finished>()[0].message, HasSubstr("its images changed"));
  options.dataset_fingerprint.clear();
  const std::string shard = data_ + "/" + image::ShardFileName(0);
  fs::resize_file(shard, fs::file_size(shard) - 10);
  RecordingSink cut;
  EXPECT_EQ(RunOne(options, cut), ExitCode::kData);
  EXPECT_EQ(cut.Of<Finished>()[0].outcome, Finished::Outcome::kFailed);
  EXPECT_EQ(cut.Of<Finished>()[0].exit_code, 54);
}

TEST_F(TrainerTest, EndsAsStorageWhenTheLastCheckpointCannotBeWritten) {
  TrainOptions options = Options();
  options.spec.checkpoint_every_images = 12;
  std::ofstream(options.checkpoint_dir) << "a file where the directory should be";
  RecordingSink sink;
  EXPECT_EQ(RunOne(options, sink), ExitCode::kStorage);
  EXPECT_THAT(sink.Reasons(), Contains("CHECKPOINT_FAILED"));
  EXPECT_EQ(sink.Of<MetricPoints>().back().images_seen, 36) << "training went on meanwhile";
}

TEST_F(TrainerTest, RefusesABadSpecWithAllItsProblems) {
  TrainOptions options = Options();
  options.spec.gamma = -1;
  options.spec.model.model_channels = 33;
  options.place.world_size = 7;
  RecordingSink sink;
  EXPECT_EQ(RunOne(options, sink), ExitCode::kBadSpec);
  EXPECT_THAT(sink.Of<Finished>()[0].message,
              AllOf(HasSubstr("model_channels"), HasSubstr("objective"), HasSubstr("7 devices for a batch of 6")));
}

TEST_F(TrainerTest, RefusesImagesOfAnotherSize) {
  TrainOptions options = Options();
  options.spec.model.image_size = 32;
  RecordingSink sink;
  EXPECT_EQ(RunOne(options, sink), ExitCode::kBadSpec);
  EXPECT_THAT(sink.Of<Finished>()[0].message, HasSubstr("holds 16 px images of 1 channels"));
}

TEST_F(TrainerTest, SaysWhenItGoesOnWithOtherNumerics) {
  TrainOptions options = Options();
  options.spec.images = 12;
  RecordingSink sink;
  ASSERT_EQ(RunOne(options, sink), ExitCode::kDone);
  options = NextAttempt(options);
  options.spec.images = 18;
  options.place.threads = 2;
  RecordingSink again;
  ASSERT_EQ(RunOne(options, again), ExitCode::kDone);
  EXPECT_THAT(again.Reasons(), ElementsAre("NUMERICS_CHANGED"));
  EXPECT_THAT(again.Of<Notice>()[0].message, HasSubstr("threads: 1 -> 2"));
}

TEST_F(TrainerTest, TicksOnlyWhenItAdvances) {
  TrainOptions options = Options();
  RecordingSink sink;
  TrainerHooks hooks;
  hooks.on_step = [&](int64_t images) {
    if (images != 12) return;
    EXPECT_TRUE(sink.AwaitMore<Progress>(3));
  };
  ASSERT_EQ(RunOne(options, sink, hooks), ExitCode::kDone);
  std::map<uint64_t, int> reports;  // By tick.
  int most = 0;
  for (const Progress& progress : sink.Of<Progress>()) most = std::max(most, ++reports[progress.tick]);
  EXPECT_GE(most, 2) << "it must go on saying that it lives, with the tick standing still";
}

}  // namespace
}  // namespace p2::trainer
