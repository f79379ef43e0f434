#include "worker/trainer/train_options.h"

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/spec/respacing.h"
#include "common/spec/weighting.h"

namespace p2::trainer {

Share ShareOf(int rank, int world_size, int64_t n) { return {rank * n / world_size, (rank + 1) * n / world_size}; }

Share ShareOfStep(const TrainSpec& spec, const Place& place) {
  if (spec.leaves == 0) return ShareOf(place.rank, place.world_size, spec.batch);
  const Share leaves = ShareOf(place.rank, place.world_size, spec.leaves);
  const int64_t leaf = spec.batch / spec.leaves;
  return {leaves.begin * leaf, leaves.end * leaf};
}

std::string RunDirectory(const TrainOptions& options) {
  return std::filesystem::path(options.checkpoint_dir).parent_path().string();
}

absl::Status Validate(const TrainOptions& options) {
  const TrainSpec& spec = options.spec;
  std::vector<std::string> problems;
  const auto require = [&](bool ok, auto&&... what) {
    if (!ok) problems.push_back(absl::StrCat(what...));
  };
  for (const spec::UnetProblem& problem : spec::CheckUnet(spec.model)) {
    problems.push_back(absl::StrCat("model.", problem.field, ": ", problem.description));
  }
  const auto schedule = spec::MakeNoiseSchedule(spec.noise_schedule, spec.timesteps);
  require(schedule.ok(), "diffusion: ", schedule.status().message());
  if (schedule.ok()) {
    const auto weights = spec::ObjectiveWeights(spec.weight, spec.gamma, spec.k, *schedule);
    require(weights.ok(), "objective: ", weights.status().message());
    const auto spaced = spec::MakeSpacedSchedule(*schedule, spec.preview_steps);
    require(spec.preview_every_images < 0 || spaced.ok(), "preview.steps: ", spaced.status().message());
  }
  require(spec.images >= 1, "training.images is ", spec.images, "; at least 1");
  require(spec.batch >= 1, "training.batch is ", spec.batch, "; at least 1");
  require(spec.microbatch >= kAutoMicrobatch, "training.microbatch is ", spec.microbatch,
          "; auto, 0 (the whole share) or more");
  require(!spec.cudnn_autotune || (spec.leaves == 0 && !spec.bitwise_required),
          "training.cudnn_autotune is true; with reduction: exact or bitwise: required leave it out");
  if (spec.bitwise_required) {
    require(spec.microbatch != kAutoMicrobatch,
            "training.microbatch is auto; with bitwise: required give a number, or 0 for the device's whole share");
    require(
        options.place.threads > 0 || !absl::StartsWith(options.place.device, "cpu"),
        "resources.threads is 0; with bitwise: required a CPU rank's threads are fixed, or its bits would depend on "
        "the machine");
  }
  require(!spec.random_crop || (spec.min_crop_fraction > 0 && spec.min_crop_fraction <= spec.max_crop_fraction &&
                                spec.max_crop_fraction <= 1),
          "data.min_crop_fraction is ", spec.min_crop_fraction, " and data.max_crop_fraction ", spec.max_crop_fraction,
          "; 0 < min <= max <= 1");
  require(spec.snapshot_every_images >= 0, "ema_snapshots.every_images is ", spec.snapshot_every_images,
          "; 0 (none) or more");
  require(spec.snapshot_every_images == 0 || spec.most_snapshots >= 2, "ema_snapshots.most is ", spec.most_snapshots,
          "; at least 2");
  require(spec.log_every_images >= 1, "training.log_every_images is ", spec.log_every_images, "; at least 1");
  require(spec.checkpoint_every_images >= 1, "checkpoint.every_images is ", spec.checkpoint_every_images,
          "; at least 1");
  require(spec.preview_every_images < 0 || spec.preview_count >= 1, "preview.count is ", spec.preview_count,
          "; at least 1");
  if (spec.leaves != 0) {
    require(spec.leaves >= 1 && (spec.leaves & (spec.leaves - 1)) == 0 && spec.batch % spec.leaves == 0,
            "training.shards is ", spec.leaves, "; a power of two that divides training.batch, ", spec.batch);
    require(options.place.world_size <= spec.leaves, options.place.world_size, " devices for training.shards ",
            spec.leaves, "; every device needs a shard");
    require(spec.microbatch == 0 || spec.microbatch * spec.leaves == spec.batch, "training.microbatch is ",
            spec.microbatch, "; with reduction: exact it is the shard, training.batch / training.shards: leave it out");
    require(options.place.threads > 0 || !absl::StartsWith(options.place.device, "cpu"),
            "resources.threads is 0; with reduction: exact a CPU rank's threads are fixed, or its bits would depend on "
            "the machine");
  }
  require(options.place.world_size <= spec.batch, options.place.world_size, " devices for a batch of ", spec.batch,
          "; every device needs a sample: use fewer devices or raise training.batch");
  require(absl::StartsWith(options.checkpoint_dir, options.checkpoint_root), "checkpoint directory ",
          options.checkpoint_dir, " is not under its root ", options.checkpoint_root);
  require(!options.dataset_dir.empty(), "no dataset directory is given");
  if (problems.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(problems, "\n"));
}

}  // namespace p2::trainer
