// What a rank is told: plain structs that mirror p2.v1.TrainingSpec and the launch file (spec_seam.h fills them). No
// torch, no protobuf.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/spec/noise_schedule.h"
#include "common/spec/unet_shape.h"
#include "worker/trainer/task_options.h"

namespace p2::trainer {

// TrainSpec.microbatch: as many samples as fit into memory when the attempt starts.
inline constexpr int kAutoMicrobatch = -1;

struct EmaProfile {
  std::string name;
  double rate = 0;  // A half-life is resolved to its rate.
  bool warmup = false;
  std::optional<double> gamma;  // Of a power-function average (common/spec/power_ema.h), which has no one rate.
};

struct Deadlines {
  absl::Duration start = absl::Seconds(300);
  absl::Duration step = absl::Seconds(120);
  absl::Duration preview = absl::Seconds(120);
  absl::Duration save = absl::Seconds(600);
  absl::Duration stop = absl::Seconds(60);
};

// The resolved spec: what is trained. Names and units as in training_spec.proto.
struct TrainSpec {
  spec::UnetOptions model;  // out_channels is 2 in_channels where learn_sigma.
  spec::ScheduleKind noise_schedule = spec::ScheduleKind::kLinear;
  int timesteps = 1000;
  bool learn_sigma = true;
  bool rescale_learned_sigmas = true;
  std::string weight = "p2";
  double gamma = 1;
  double k = 1;
  bool random_flip = true;
  bool random_crop = false;
  double min_crop_fraction = 0.8;
  double max_crop_fraction = 1;

  int64_t images = 1;
  int batch = 8;
  // 0: the rank's whole share; kAutoMicrobatch: what fits. REQUIRES: 0 where leaves > 0.
  int microbatch = 0;
  int leaves = 0;                // V of the `exact` reduction; 0: `fast`.
  double learning_rate = 2e-5;   // As learning_rate_rule made it.
  bool anneal_linearly = false;  // The step that begins at g images has learning_rate (1 - g / images).
  double clip_grad_norm = 0;     // 0: off.
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  uint64_t seed = 0;
  spec::Precision precision = spec::Precision::kFp32;
  bool cuda_graph = false;        // Where it can be (step_graph.h).
  bool cudnn_autotune = false;    // REQUIRES: false where leaves > 0 or bitwise_required.
  bool bitwise_required = false;  // An attempt with another numerics fingerprint than the checkpoint's is refused.
  int64_t log_every_images = 1000;
  std::vector<EmaProfile> emas;

  int64_t snapshot_every_images = 0;  // Of the power-function averages; 0: none.
  int most_snapshots = 128;
  int64_t checkpoint_every_images = 100000;
  int keep_last = 3;
  int64_t preview_every_images = 100000;  // 0: only at the end; -1: never.
  int preview_count = 16;
  std::string preview_steps = "50";
  Deadlines deadlines;
};

// Where this rank runs.
struct Place {
  int rank = 0;
  int world_size = 1;
  int local_world_size = 1;      // Ranks on this machine.
  std::string device = "cpu:0";  // "cpu:<slot>" or "cuda:<index>".
  int threads = 0;               // 0: the machine's cores / local_world_size.
  std::string master_address = "127.0.0.1";
  int master_port = 0;
  std::optional<int> store_fd;  // Rank 0: listening socket on master_port, taken over.
  std::string data_interface;
  // "nccl", "gloo"; empty: NCCL between GPUs, Gloo between CPUs. Named, it is set up even for a rank that is alone.
  std::string backend;
  std::string rendezvous_nonce;
};

struct SkippedSamples {
  int64_t begin = 0;
  int64_t end = 0;
};

struct TrainOptions {
  TrainSpec spec;
  std::string spec_json;  // Kept in every checkpoint.
  Place place;

  std::string job_id;
  int attempt = 1;
  int64_t epoch = 1;
  std::string dataset_dir;
  uint64_t resident_limit_bytes = uint64_t{1} << 30;  // Larger datasets are read from disk, record by record.
  std::string dataset_fingerprint;                    // Hex SHA-256 that the dataset must have; empty: any.
  std::string checkpoint_dir;
  std::string checkpoint_root;                 // REQUIRES: checkpoint_dir lies under it.
  std::vector<std::string> resume_candidates;  // Names in checkpoint_dir, best first.
  std::vector<SkippedSamples> skipped;         // Known from earlier attempts.
  std::string work_dir;                        // For artifacts.
  // What the job starts from: a task's input, or the weights that a new run begins with (source_weights.h). Empty:
  // nothing.
  std::string source;
  bool source_is_run = false;  // Goes on from it, a p2 checkpoint, as from one of its own.
  std::optional<Task> task;    // Instead of training (task.h).
  std::string output_dir;      // For what a task writes.
  // At the end rank 0 serves the store this long for ranks that still read.
  absl::Duration farewell_timeout = absl::Seconds(5);
  bool prune_checkpoints = false;  // Keep the newest spec.keep_last only; with p2d, collecting them is its business.
};

// Where a job's own files lie: the parent of checkpoint_dir.
std::string RunDirectory(const TrainOptions& options);

// A rank's samples of a step: [begin, end) of the batch.
struct Share {
  int64_t begin = 0;
  int64_t end = 0;
};
// floor(r n / W) and floor((r + 1) n / W).
Share ShareOf(int rank, int world_size, int64_t n);
// Of a training step: as above, whole leaves in `exact`.
Share ShareOfStep(const TrainSpec& spec, const Place& place);

// Every reason why `options` cannot be trained, at once: INVALID_ARGUMENT.
absl::Status Validate(const TrainOptions& options);

}  // namespace p2::trainer
