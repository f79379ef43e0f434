// Whole runs of a very small net inside a test: one rank, or several as threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "common/spec/power_ema.h"
#include "tests/worker/dist/gang.h"
#include "tests/worker/trainer/tiny_dataset.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/trainer/trainer.h"

namespace p2::trainer {

class RecordingSink final : public EventSink {
 public:
  void Emit(const Event& event) override {
    absl::MutexLock lock(&mutex_);
    events_.push_back(event);
  }
  template <typename T>
  std::vector<T> Of() {
    absl::MutexLock lock(&mutex_);
    std::vector<T> found;
    for (const Event& event : events_) {
      if (const T* value = std::get_if<T>(&event)) found.push_back(*value);
    }
    return found;
  }
  // Until `count` more events of the kind have come; false if they do not within 30 s.
  template <typename T>
  bool AwaitMore(size_t count) {
    return Await<T>(Of<T>().size() + count);
  }
  // The same, with those that have come already.
  template <typename T>
  bool Await(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return std::count_if(events_.begin(), events_.end(), [](const Event& event) {
               return std::holds_alternative<T>(event);
             }) >= static_cast<int64_t>(count);
    };
    return mutex_.AwaitWithTimeout(absl::Condition(&there), absl::Seconds(30));
  }
  // Reasons of the notices, in order.
  std::vector<std::string> Reasons() {
    std::vector<std::string> reasons;
    for (const Notice& notice : Of<Notice>()) reasons.push_back(notice.reason);
    return reasons;
  }

 private:
  absl::Mutex mutex_;
  std::vector<Event> events_ ABSL_GUARDED_BY(mutex_);
};

// Batch 6, six steps, dropout and two EMAs, checkpoints and previews only at the end.
inline TrainOptions TinyOptions(const std::string& data, const std::string& out) {
  TrainOptions options;
  TrainSpec& spec = options.spec;
  spec.model.image_size = kTinySize;
  spec.model.in_channels = 1;
  spec.model.out_channels = 2;
  spec.model.model_channels = 32;
  spec.model.channel_mult = {1};
  spec.model.attention_resolutions = {};
  spec.model.num_head_channels = 32;
  spec.model.dropout = 0.1;
  spec.batch = 6;
  spec.images = 36;
  spec.learning_rate = 1e-3;
  spec.seed = 7;
  spec.log_every_images = 12;
  spec.emas = {{"0.9", 0.9, true}, {.name = "s0.1", .gamma = spec::PowerEmaGamma(0.1)}};
  spec.preview_every_images = -1;
  spec.preview_count = 4;
  spec.preview_steps = "4";
  spec.deadlines.start = spec.deadlines.step = absl::Seconds(30);
  spec.deadlines.save = spec.deadlines.stop = absl::Seconds(30);
  options.spec_json = "{}";
  options.farewell_timeout = absl::Milliseconds(500);
  options.place.device = "cpu:0";
  options.place.threads = 1;
  options.dataset_dir = data;
  options.checkpoint_root = out;
  options.checkpoint_dir = out + "/checkpoints";
  options.work_dir = out;
  return options;
}

inline std::string CheckpointPath(const TrainOptions& options, int64_t images) {
  return absl::StrCat(options.checkpoint_dir, "/", checkpoint::DirectoryName(images, options.epoch));
}

// The digests of a checkpoint's tensor files, by name: equal digests are equal bits.
inline std::map<std::string, std::string> TensorDigests(const TrainOptions& options, int64_t images) {
  std::map<std::string, std::string> digests;
  const auto checkpoint = checkpoint::Checkpoint::Open(CheckpointPath(options, images));
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  if (!checkpoint.ok()) return digests;
  for (const checkpoint::FileEntry& file : (*checkpoint)->manifest().files) {
    if (file.path.find(".safetensors") != std::string::npos) digests[file.path] = file.sha256;
  }
  return digests;
}

// Resumes where `options` ended: what p2d does for the next attempt.
inline TrainOptions NextAttempt(TrainOptions options) {
  options.resume_candidates = checkpoint::ListCheckpoints(options.checkpoint_dir);
  ++options.epoch;
  ++options.attempt;
  return options;
}

struct GangRun {
  std::vector<ExitCode> exit_codes;
  std::vector<RecordingSink> sinks;
  explicit GangRun(int ranks) : exit_codes(ranks), sinks(ranks) {}
};

// `hooks`: of each rank; the same for all if there is one.
inline void RunRanks(TrainOptions options, const std::vector<TrainerHooks>& hooks, GangRun* run) {
  const int world_size = static_cast<int>(run->exit_codes.size());
  const dist::Listener listener;
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < world_size; ++rank) {
    ranks.emplace_back([&, rank, options]() mutable {
      options.place.rank = rank;
      options.place.world_size = world_size;
      options.place.master_port = listener.port;
      if (rank == 0 && world_size > 1) options.place.store_fd = listener.fd;
      const TrainerHooks none;
      const TrainerHooks& mine = hooks.empty() ? none : hooks[std::min<size_t>(rank, hooks.size() - 1)];
      run->exit_codes[rank] = RunTrainer(options, run->sinks[rank], mine);
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

inline ExitCode RunOne(const TrainOptions& options, RecordingSink& sink, const TrainerHooks& hooks = {}) {
  return RunTrainer(options, sink, hooks);
}

}  // namespace p2::trainer
