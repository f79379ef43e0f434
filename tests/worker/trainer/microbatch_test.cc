// training.microbatch: auto, and what running out of memory does.
#include "worker/trainer/microbatch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <atomic>
#include <new>
#include <string>
#include <vector>

#include "tests/worker/trainer/tiny_run.h"

namespace p2::trainer {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class MicrobatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    data_ = FreshDir("data");
    MakeTinyDataset(data_);
  }
  TrainOptions Options(const std::string& name) { return TinyOptions(data_, FreshDir(name)); }

  // The bits of a run of these microbatches, each until its images, in attempts of their own.
  std::map<std::string, std::string> Trained(int ranks, const std::vector<std::pair<int, int64_t>>& parts) {
    TrainOptions options = Options("parts");
    std::map<std::string, std::string> digests;
    for (const auto& [microbatch, images] : parts) {
      options.spec.microbatch = microbatch;
      options.spec.images = images;
      GangRun run(ranks);
      RunRanks(options, {}, &run);
      EXPECT_THAT(run.exit_codes, Each(ExitCode::kDone));
      digests = TensorDigests(options, images);
      options = NextAttempt(options);
    }
    return digests;
  }

  std::string data_;
};

// Fails where the samples that begin with `first_sample` are in memory, as torch's allocator for the host does.
TrainerHooks OutOfMemoryAt(int64_t first_sample, std::atomic<int>* times) {
  TrainerHooks hooks;
  hooks.on_microbatch = [=](const Microbatch& microbatch) {
    if (microbatch.first_sample != first_sample || times->fetch_sub(1) <= 0) return;
    TORCH_CHECK(false, "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1099511627776 bytes.");
  };
  return hooks;
}

TEST_F(MicrobatchTest, IsHalvedOnceWhenARankRunsOutOfMemory) {
  TrainOptions options = Options("halved");
  options.spec.checkpoint_every_images = 12;
  std::atomic<int> times{1};
  GangRun run(2);
  RunRanks(options, {TrainerHooks(), OutOfMemoryAt(21, &times)}, &run);  // Rank 1, in the fourth step.
  ASSERT_THAT(run.exit_codes, Each(ExitCode::kDone)) << run.sinks[0].Of<Finished>()[0].message;
  EXPECT_THAT(run.sinks[0].Reasons(), ElementsAre("NUMERICS_CHANGED"));
  EXPECT_THAT(run.sinks[0].Of<Notice>()[0].message,
              AllOf(HasSubstr("rank 1 ran out of memory: microbatch 3 -> 2"), HasSubstr("at 12 images")));
  // Nothing half-done counts: the same as if the attempt had ended at the checkpoint.
  EXPECT_EQ(TensorDigests(options, 36), Trained(2, {{0, 12}, {2, 36}}));

  // The next attempt goes on with it, and says nothing new.
  options = NextAttempt(options);
  options.spec.images = 42;
  GangRun next(2);
  RunRanks(options, {}, &next);
  ASSERT_THAT(next.exit_codes, Each(ExitCode::kDone));
  EXPECT_THAT(next.sinks[0].Reasons(), IsEmpty());
  EXPECT_EQ(next.sinks[0].Of<Started>()[0].fingerprint.at("microbatch"), "2, halved from 0");
  EXPECT_EQ(TensorDigests(options, 42), Trained(2, {{0, 12}, {2, 42}}));
}

TEST_F(MicrobatchTest, IsHalvedAlsoWhereTheOthersHaveTheSumAlready) {
  TrainOptions options = Options("late");
  std::atomic<int> times{1};
  TrainerHooks late;
  late.on_gradients = [&](int64_t first_sample, at::Tensor&) {
    if (first_sample == 8 && times.fetch_sub(1) > 0) throw std::bad_alloc();
  };
  GangRun run(3);
  RunRanks(options, {TrainerHooks(), late, TrainerHooks()}, &run);
  ASSERT_THAT(run.exit_codes, Each(ExitCode::kDone)) << run.sinks[0].Of<Finished>()[0].message;
  EXPECT_EQ(TensorDigests(options, 36), Trained(3, {{1, 36}}));
}

TEST_F(MicrobatchTest, EndsAsMemoryTheSecondTime) {
  TrainOptions options = Options("twice");
  std::atomic<int> times{2};
  RecordingSink sink;
  EXPECT_EQ(RunOne(options, sink, OutOfMemoryAt(6, &times)), ExitCode::kMemory);
  EXPECT_THAT(sink.Reasons(), ElementsAre("NUMERICS_CHANGED"));
  EXPECT_EQ(sink.Of<Finished>()[0].exit_code, 52);
  EXPECT_THAT(sink.Of<Finished>()[0].message,
              AllOf(HasSubstr("can't allocate memory"), HasSubstr("halved already, to 3: lower training.microbatch")));
}

TEST_F(MicrobatchTest, IsNotHalvedWhereBitsArePromised) {
  const auto message = [&](auto change) {
    TrainOptions options = Options("promised");
    change(options.spec);
    std::atomic<int> times{1};
    RecordingSink sink;
    EXPECT_EQ(RunOne(options, sink, OutOfMemoryAt(6, &times)), ExitCode::kMemory);
    EXPECT_THAT(sink.Reasons(), IsEmpty());
    return sink.Of<Finished>()[0].message;
  };
  EXPECT_THAT(message([](TrainSpec& spec) { spec.leaves = 2; }),
              HasSubstr("a forward pass is a shard, here of 3 samples: raise training.shards"));
  EXPECT_THAT(message([](TrainSpec& spec) { spec.bitwise_required = true; }),
              HasSubstr("with bitwise: required it is not halved: lower training.microbatch"));
  EXPECT_THAT(message([](TrainSpec& spec) { spec.microbatch = 1; }), HasSubstr("activation_recompute"));
}

// Memory for the checkpoint's copy and `samples` samples.
int64_t RoomFor(const TrainSpec& spec, double samples) {
  const auto memory = spec::EstimateTrainingMemory(spec.model, static_cast<int>(spec.emas.size()));
  return static_cast<int64_t>(
      (memory->parameters + memory->optimizer + memory->emas + samples * memory->activations_per_sample) / 0.8);
}

TEST_F(MicrobatchTest, AutoTakesWhatFitsAndGoesOnWithIt) {
  TrainOptions options = Options("auto");
  options.spec.microbatch = kAutoMicrobatch;
  options.place.local_world_size = 2;
  const auto with_room = [&](double first, double second) {
    TrainerHooks hooks, others;
    hooks.available_memory = [&options, first] { return 2 * RoomFor(options.spec, first); };
    others.available_memory = [&options, second] { return 2 * RoomFor(options.spec, second); };
    GangRun run(2);
    RunRanks(options, {hooks, others}, &run);
    EXPECT_THAT(run.exit_codes, Each(ExitCode::kDone));
    return std::make_pair(run.sinks[0].Of<Started>()[0].fingerprint.at("microbatch"), run.sinks[0].Reasons());
  };
  const auto [fits, reasons] = with_room(100, 2.5);
  EXPECT_EQ(fits, "2") << "the same on all ranks";
  EXPECT_EQ(TensorDigests(options, 36), Trained(2, {{2, 36}}));
  const auto checkpoint = checkpoint::Checkpoint::Open(CheckpointPath(options, 36));
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_EQ((*checkpoint)->state().fingerprint.at("microbatch"), "2");

  options = NextAttempt(options);
  options.spec.images = 42;
  const auto [kept, quiet] = with_room(100, 100);
  EXPECT_EQ(kept, "2") << "more memory is no reason to change bits";
  EXPECT_THAT(quiet, IsEmpty());
  options = NextAttempt(options);
  options.spec.images = 48;
  const auto [lower, said] = with_room(0.1, 100);
  EXPECT_EQ(lower, "1");
  EXPECT_THAT(said, ElementsAre("NUMERICS_CHANGED"));
}

TEST_F(MicrobatchTest, RequiredBitsRefuseAnotherFingerprint) {
  TrainOptions options = Options("required");
  options.spec.images = 12;
  options.spec.bitwise_required = true;
  RecordingSink sink, same, other;
  ASSERT_EQ(RunOne(options, sink), ExitCode::kDone);
  options = NextAttempt(options);
  options.spec.images = 18;
  ASSERT_EQ(RunOne(options, same), ExitCode::kDone);
  options = NextAttempt(options);
  options.spec.images = 24;
  options.place.threads = 2;
  options.spec.precision = spec::Precision::kBf16;
  EXPECT_EQ(RunOne(options, other), ExitCode::kBadSpec);
  EXPECT_THAT(other.Of<Finished>()[0].message, AllOf(HasSubstr("bitwise is required"), HasSubstr("threads: 1 -> 2"),
                                                     HasSubstr("precision: fp32 -> bf16")));
  options.place.threads = 0;
  EXPECT_THAT(std::string(Validate(options).message()), HasSubstr("resources.threads is 0; with bitwise: required"));
  options.spec.microbatch = kAutoMicrobatch;
  EXPECT_THAT(std::string(Validate(options).message()), HasSubstr("training.microbatch is auto; with bitwise"));
}

}  // namespace
}  // namespace p2::trainer
