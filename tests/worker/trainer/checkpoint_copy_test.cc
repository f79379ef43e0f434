// A checkpoint's copy runs beside training: it holds the bits of its moment, whatever changes the state next.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <atomic>
#include <functional>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "tests/worker/trainer/tiny_run.h"
#include "worker/trainer/run_state.h"

namespace p2::trainer {
namespace {

using ::testing::Each;

// Long enough for what does not wait to be seen; what waits makes a copy take this long.
constexpr absl::Duration kHeldBack = absl::Milliseconds(100);

std::vector<float> ValuesOf(const checkpoint::Snapshot& snapshot) {
  std::vector<float> values;
  for (const checkpoint::TensorFile& file : snapshot.tensors) {
    for (const checkpoint::TensorView& tensor : file.tensors) {
      values.insert(values.end(), tensor.values.begin(), tensor.values.end());
    }
  }
  return values;
}

class CheckpointCopyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    data_ = FreshDir("data");
    MakeTinyDataset(data_);
  }
  TrainOptions Options(const std::string& name) { return TinyOptions(data_, FreshDir(name)); }

  // A copy that is held back until `change` was begun, against one that was made while nobody changed the state.
  void ExpectBitsOfBefore(const std::function<void(RunState&)>& change) {
    std::atomic<bool> hold{false};
    bool changed_before = false;
    absl::Notification begun, changed;
    RunState state(Options("out").spec, at::kCPU, [&] {
      if (!hold) return;
      begun.WaitForNotification();
      changed_before = changed.WaitForNotificationWithTimeout(kHeldBack);
    });
    Update(state);
    checkpoint::Snapshot expected = state.TakeSnapshot();
    ASSERT_TRUE(expected.arrive(&expected).ok());

    hold = true;
    checkpoint::Snapshot snapshot = state.TakeSnapshot();
    begun.Notify();
    change(state);
    changed.Notify();
    ASSERT_TRUE(snapshot.arrive(&snapshot).ok());
    EXPECT_FALSE(changed_before) << "the state changed before it was copied";
    EXPECT_EQ(ValuesOf(snapshot), ValuesOf(expected));
    EXPECT_EQ(snapshot.state.updates, 1);

    hold = false;
    checkpoint::Snapshot after = state.TakeSnapshot();
    ASSERT_TRUE(after.arrive(&after).ok());
    EXPECT_NE(ValuesOf(after), ValuesOf(expected)) << "nothing was changed";
  }

  static void Update(RunState& state) {
    state.flat().grads().fill_(0.5);
    const at::Tensor found_inf = at::zeros({});
    const RunState::Updatable update = state.ToUpdate();
    update.adamw.Step(state.flat().grads(), found_inf);
    for (optim::Ema& ema : update.emas) ema.Update(state.flat().params(), update.adamw.updates(), found_inf);
  }

  std::string data_;
};

TEST_F(CheckpointCopyTest, HoldsTheBitsFromBeforeAnUpdate) {
  ExpectBitsOfBefore([](RunState& state) {
    Update(state);
    EXPECT_GE(state.TakeCopyWait(), kHeldBack / 2) << "training waited for the copy and does not say so";
    EXPECT_EQ(state.TakeCopyWait(), absl::ZeroDuration());
  });
}

TEST_F(CheckpointCopyTest, HoldsTheBitsFromBeforeTheStateGoesBackToTheStart) {
  ExpectBitsOfBefore([](RunState& state) { state.Initialize(); });
}

TEST_F(CheckpointCopyTest, HoldsTheBitsFromBeforeAnotherCheckpointIsLoaded) {
  TrainOptions other = Options("other");
  other.spec.images = 6;
  RecordingSink sink;
  ASSERT_EQ(RunOne(other, sink), ExitCode::kDone);
  const auto loaded = checkpoint::Checkpoint::Open(CheckpointPath(other, 6));
  ASSERT_TRUE(loaded.ok());
  ExpectBitsOfBefore([&](RunState& state) { EXPECT_TRUE(state.Load(**loaded).ok()); });
  ExpectBitsOfBefore([&](RunState& state) { EXPECT_TRUE(state.LoadWeights(CheckpointPath(other, 6)).ok()); });
}

// Lets each copy begin only when the gradients of the next step are summed, just before the update.
TrainerHooks SlowCopies(std::atomic<int>* copies) {
  struct Gate {
    absl::Mutex mutex;
    int gradients ABSL_GUARDED_BY(mutex) = 0;
  };
  const auto gate = std::make_shared<Gate>();
  TrainerHooks hooks;
  hooks.on_gradients = [gate](int64_t, at::Tensor&) {
    absl::MutexLock lock(&gate->mutex);
    ++gate->gradients;
  };
  hooks.on_copy = [gate, copies] {
    ++*copies;
    absl::MutexLock lock(&gate->mutex);
    const int before = gate->gradients;
    const auto next = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(gate->mutex) { return gate->gradients > before; };
    gate->mutex.AwaitWithTimeout(absl::Condition(&next), kHeldBack);  // None comes after the last step.
  };
  return hooks;
}

TEST_F(CheckpointCopyTest, LeavesTheFilesOfARunThatEndedThereAfterEveryStep) {
  for (const int ranks : {1, 2}) {
    TrainOptions options = Options("whole");
    options.spec.checkpoint_every_images = options.spec.batch;
    options.spec.keep_last = 6;
    std::atomic<int> copies = 0;
    GangRun run(ranks);
    RunRanks(options, {SlowCopies(&copies), TrainerHooks()}, &run);
    ASSERT_THAT(run.exit_codes, Each(ExitCode::kDone));
    EXPECT_EQ(copies, 6);
    for (int64_t images = options.spec.batch; images <= options.spec.images; images += options.spec.batch) {
      TrainOptions shorter = Options("shorter");
      shorter.spec.images = images;
      GangRun ended(ranks);
      RunRanks(shorter, {}, &ended);
      ASSERT_THAT(ended.exit_codes, Each(ExitCode::kDone));
      EXPECT_EQ(TensorDigests(options, images), TensorDigests(shorter, images)) << images << " on " << ranks;
    }
  }
}

TEST_F(CheckpointCopyTest, GoesBackToACheckpointWhoseCopyWasStillRunning) {
  const auto run = [&](const std::string& name, TrainerHooks hooks) {
    TrainOptions options = Options(name);
    options.spec.checkpoint_every_images = 12;
    options.spec.images = 60;
    const auto watch = hooks.on_gradients;
    hooks.on_gradients = [watch](int64_t first_sample, at::Tensor& grads) {
      if (watch) watch(first_sample, grads);
      if (first_sample >= 24 && first_sample < 42) grads[5] = std::numeric_limits<float>::quiet_NaN();
    };
    RecordingSink sink;
    EXPECT_EQ(RunOne(options, sink, hooks), ExitCode::kDone);
    EXPECT_THAT(sink.Reasons(), ::testing::ElementsAre("DATA_SKIPPED"));
    return TensorDigests(options, 60);
  };
  std::atomic<int> copies = 0;
  EXPECT_EQ(run("slow", SlowCopies(&copies)), run("plain", {}));
  EXPECT_GE(copies, 4);
}

TEST_F(CheckpointCopyTest, SaysThatThereIsNoMemoryAndTrainsOn) {
  TrainOptions options = Options("out");
  options.spec.checkpoint_every_images = 12;
  std::atomic<int> copies = 0;
  TrainerHooks hooks;
  hooks.on_copy = [&] {
    if (++copies == 1) throw std::bad_alloc();
  };
  RecordingSink sink;
  EXPECT_EQ(RunOne(options, sink, hooks), ExitCode::kDone);
  EXPECT_THAT(sink.Reasons(), ::testing::ElementsAre("CHECKPOINT_FAILED"));
  EXPECT_EQ(sink.Of<CheckpointSaved>().size(), 2u);
}

}  // namespace
}  // namespace p2::trainer
