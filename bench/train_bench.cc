// train_bench: times the real training step (data, forward, backward, optimizer, averages, sums for the metrics) on
// synthetic images, on one rank. One JSON object a round on stdout; times are means over a round's steps.
//
//   train_bench --model tiny --threads 1 --steps 10
//   train_bench --preset own-64 --set training.batch=4 --phase optimizer
#include <ATen/ATen.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "bench/allocation_counter.h"
#include "bench/synthetic_dataset.h"
#include "common/clock.h"
#include "common/logging.h"
#include "common/spec/noise_schedule.h"
#include "common/spec/weighting.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "worker/checkpoint/checkpoint_writer.h"
#include "worker/random/random_tensors.h"
#include "worker/random/streams.h"
#include "worker/trainer/fingerprint.h"
#include "worker/trainer/host_memory.h"
#include "worker/trainer/metric_window.h"
#include "worker/trainer/run_state.h"
#include "worker/trainer/spec_seam.h"
#include "worker/trainer/step_times.h"
#include "worker/trainer/torch_status.h"
#include "worker/trainer/train_step.h"
#include "worker/trainer/training_data.h"

namespace p2::bench {
namespace {

using nlohmann::json;

struct Flags {
  std::string model = "tiny";
  std::string preset;
  std::vector<std::string> set;
  std::string precision = "fp32";
  std::string phase = "step";
  std::string phase_clock = "wall";
  std::string weights;
  int batch = 0;  // 0: the model's.
  int threads = 1;
  int steps = 8;
  int warmup = 2;
  int rounds = 1;
  bool wait = false;
  std::string write_dataset;
};

// Named models: a preset and what differs.
struct Model {
  std::string preset;
  std::vector<std::string> set;
};

const std::map<std::string, Model>& Models() {
  static const auto* const models = new std::map<std::string, Model>{
      // The golden net of 1.4 M parameters.
      {"tiny",
       {"base",
        {"model.image_size=32", "model.model_channels=32", "model.channel_mult=[1, 2, 2]",
         "model.attention_resolutions=[8]", "model.num_head_channels=16"}}},
      {"mnist-demo", {"mnist-demo", {}}},
      {"own-64", {"own-64", {"training.batch=8"}}},
      {"light-128", {"base", {"model.image_size=128", "model.channel_mult=[1, 1, 2, 3, 4]", "training.batch=1"}}},
      // The paper's model.
      {"light-256", {"base", {"training.batch=1"}}},
  };
  return *models;
}

// CPU time of this process, in the place of the monotonic clock: a busy machine disturbs it less. With several threads
// it counts those that spin, too.
class CpuClock final : public Clock {
 public:
  absl::Time Now() const override { return Clock::Real().Now(); }
  absl::Time Monotonic() const override {
    timespec now{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return absl::TimeFromTimespec(now);
  }
};

// Of this process, in bytes; 0 where /proc does not tell.
int64_t PeakResidentBytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    absl::string_view rest = line;
    int64_t kib = 0;
    if (absl::ConsumePrefix(&rest, "VmHWM:") && absl::ConsumeSuffix(&rest, "kB") && absl::SimpleAtoi(rest, &kib))
      return kib * 1024;
  }
  return 0;
}

absl::StatusOr<trainer::TrainOptions> Resolve(const Flags& flags, const std::string& directory) {
  Model model{flags.preset, {}};
  if (flags.preset.empty()) model = Models().at(flags.model);
  model.set.push_back("training.images=1M");
  model.set.push_back(absl::StrCat("training.precision=", flags.precision));
  if (flags.batch > 0) model.set.push_back(absl::StrCat("training.batch=", flags.batch));
  model.set.insert(model.set.end(), flags.set.begin(), flags.set.end());
  std::vector<std::string> warnings;
  P2_ASSIGN_OR_RETURN(trainer::TrainOptions options, trainer::OptionsFromSpec(model.preset, model.set, &warnings));
  options.place.device = "cpu";
  options.place.threads = flags.threads;
  options.dataset_dir = directory;
  options.checkpoint_dir = absl::StrCat(directory, "/checkpoints");
  return options;
}

// Everything that a rank of one holds. Confined to one thread.
class Bench {
 public:
  static absl::StatusOr<std::unique_ptr<Bench>> Create(const Flags& flags, trainer::TrainOptions options) {
    std::unique_ptr<Bench> bench(new Bench(flags, std::move(options)));
    P2_RETURN_IF_ERROR(trainer::RunTorch("build", [&] { return bench->Build(); }));
    return bench;
  }

  // One round.
  absl::StatusOr<json> Run() {
    times_.Clear();
    checkpoint_ = {};
    const absl::Time wall = Clock::Real().Monotonic(), cpu = cpu_clock_.Monotonic();
    for (int i = 0; i < flags_.steps; ++i) P2_RETURN_IF_ERROR(Once());
    const double steps = flags_.steps;
    const double wall_ms = absl::ToDoubleMilliseconds(Clock::Real().Monotonic() - wall) / steps;
    const double cpu_ms = absl::ToDoubleMilliseconds(cpu_clock_.Monotonic() - cpu) / steps;
    json phases;
    for (const auto& [name, seconds] : times_.Take(steps, 1e-3 * (flags_.phase_clock == "cpu" ? cpu_ms : wall_ms)))
      phases[std::string(absl::StripPrefix(name, "step_seconds_"))] = 1e3 * seconds;
    if (flags_.phase == "checkpoint") {
      phases = {{"wait", absl::ToDoubleMilliseconds(checkpoint_.wait) / steps},
                {"write", absl::ToDoubleMilliseconds(checkpoint_.write) / steps},
                {"step_alone", absl::ToDoubleMilliseconds(checkpoint_.alone) / steps},
                {"step_beside", absl::ToDoubleMilliseconds(checkpoint_.beside) / steps}};
    }
    return json{{"model", flags_.preset.empty() ? flags_.model : flags_.preset},
                {"parameters", state_->flat().layout().num_parameters()},
                {"batch", options_.spec.batch},
                {"precision", flags_.precision},
                {"threads", flags_.threads},
                {"phase", flags_.phase},
                {"steps", flags_.steps},
                {"wall_ms", wall_ms},
                {"cpu_ms", cpu_ms},
                {"phases_ms", phases},
                {"phase_clock", flags_.phase_clock},
                {"images_per_second", 1e3 * options_.spec.batch / wall_ms},
                {"allocations_per_step", allocations_.count},
                {"allocated_bytes_per_step", allocations_.bytes},
                {"peak_bytes_of_a_step", allocations_.peak_bytes},
                {"peak_resident_bytes", PeakResidentBytes()}};
  }

 private:
  Bench(const Flags& flags, trainer::TrainOptions options)
      : flags_(flags),
        options_(std::move(options)),
        times_(flags.phase_clock == "cpu" ? static_cast<const Clock&>(cpu_clock_) : Clock::Real()) {}

  // As the trainer does.
  absl::Status Build() {
    const trainer::TrainSpec& spec = options_.spec;
    trainer::ConfigureNumerics(options_.place, options_.spec);
    P2_ASSIGN_OR_RETURN(group_, dist::ProcessGroup::Create({}));
    P2_ASSIGN_OR_RETURN(data_, trainer::TrainingData::Open(options_, at::kCPU));
    P2_ASSIGN_OR_RETURN(const spec::NoiseSchedule schedule,
                        spec::MakeNoiseSchedule(spec.noise_schedule, spec.timesteps));
    P2_ASSIGN_OR_RETURN(const std::vector<double> weights,
                        spec::ObjectiveWeights(spec.weight, spec.gamma, spec.k, schedule));
    diffusion_.emplace(
        schedule, spec.learn_sigma ? diffusion::VarianceKind::kLearnedRange : diffusion::VarianceKind::kFixedLarge);
    loss_.emplace(*diffusion_, weights, diffusion::LossOptions{.rescale_vb = spec.rescale_learned_sigmas});
    state_ = std::make_unique<trainer::RunState>(spec, at::kCPU);
    if (!flags_.weights.empty()) P2_RETURN_IF_ERROR(state_->LoadWeights(flags_.weights));
    window_ = std::make_unique<trainer::MetricWindow>(*group_, schedule.snr, spec.leaves);
    step_ = std::make_unique<trainer::TrainStep>(spec, *state_, *diffusion_, *loss_, *group_, spec.microbatch, hooks_);
    P2_RETURN_IF_ERROR(data_->Seek(0));
    P2_ASSIGN_OR_RETURN(samples_, data_->Next());
    for (int i = 0; i < flags_.warmup; ++i) P2_RETURN_IF_ERROR(Once());
    absl::Status counted;
    allocations_ = CountAllocations([&] { counted = Once(); });
    return counted;
  }

  absl::Status Once() {
    times_.Begin();
    if (flags_.phase == "step") return Step();
    if (flags_.phase == "forward") return Forward();
    if (flags_.phase == "optimizer") return Optimizer();
    if (flags_.phase == "checkpoint") return Checkpoint();
    RandomMap();
    return absl::OkStatus();
  }

  absl::Status Step() {
    P2_ASSIGN_OR_RETURN(const trainer::TrainingData::Samples samples, data_->Next());
    times_.End("data");
    P2_ASSIGN_OR_RETURN(const trainer::StepResult result, step_->Run(
                                                              samples.x0, samples.first_sample, [] {}, &times_));
    state_->position().images_seen += options_.spec.batch;
    window_->Add(result.terms, result.t, result.grad_norm, result.found_inf);
    return absl::OkStatus();
  }

  // Timesteps and noise of a step.
  std::pair<at::Tensor, at::Tensor> RandomMap() {
    const trainer::TrainSpec& spec = options_.spec;
    const auto g = static_cast<uint64_t>(samples_.first_sample);
    const at::Tensor t = random::Timesteps({spec.seed, random::kTimestepStream, g}, spec.batch, spec.timesteps);
    return {t, random::Normal({spec.seed, random::kNoiseStream, g}, samples_.x0.sizes())};
  }

  // With its graph, which is dropped.
  absl::Status Forward() {
    state_->RefreshComputeWeights();
    const auto [t, noise] = RandomMap();
    const model::DropoutContext dropout{options_.spec.seed, static_cast<uint64_t>(samples_.first_sample)};
    (void)state_->unet().forward(diffusion_->QSample(samples_.x0, t, noise), diffusion_->ModelTimesteps(t), &dropout);
    return absl::OkStatus();
  }

  // Zeroing of the gradients, AdamW and averages over gradients of zeros.
  absl::Status Optimizer() {
    state_->flat().ZeroGrads();
    times_.End("zero_grad");
    const trainer::RunState::Updatable update = state_->ToUpdate();
    update.adamw.Step(state_->flat().grads(), zero_);
    times_.End("adamw");
    for (optim::Ema& ema : update.emas) ema.Update(state_->flat().params(), update.adamw.updates(), zero_);
    times_.End("ema");
    return absl::OkStatus();
  }

  // A step alone, then one with a checkpoint begun before it, whose copy and writing go on beside it. What the second
  // waits for (`wait`: beginning the copy, and the rest of it before the update) and the time from its begin until the
  // checkpoint is durable (`write`).
  absl::Status Checkpoint() {
    const absl::Time start = Clock::Real().Monotonic();
    P2_RETURN_IF_ERROR(Step());
    const absl::Time begin = Clock::Real().Monotonic();
    checkpoint_.alone += begin - start;
    checkpoint::Snapshot snapshot = state_->TakeSnapshot();
    snapshot.epoch = ++epoch_;
    snapshot.spec_json = options_.spec_json;
    absl::StatusOr<checkpoint::WrittenCheckpoint> written;
    {
      checkpoint::BackgroundWriter writer(options_.checkpoint_dir, nullptr, [&](const auto& done) {
        written = done;
        checkpoint_.write += Clock::Real().Monotonic() - begin;
      });
      writer.Start(std::move(snapshot));
      checkpoint_.wait += Clock::Real().Monotonic() - begin;
      P2_RETURN_IF_ERROR(Step());
      checkpoint_.beside += Clock::Real().Monotonic() - begin;
      checkpoint_.wait += state_->TakeCopyWait();
    }
    P2_RETURN_IF_ERROR(written.status());
    checkpoint::RemoveTree(absl::StrCat(options_.checkpoint_dir, "/", written->name));
    return absl::OkStatus();
  }

  const Flags& flags_;
  const trainer::TrainOptions options_;
  int64_t epoch_ = 0;
  const trainer::TrainerHooks hooks_;
  const CpuClock cpu_clock_;
  trainer::StepTimes times_;
  const at::Tensor zero_ = at::zeros({});
  std::unique_ptr<dist::ProcessGroup> group_;
  std::unique_ptr<trainer::TrainingData> data_;
  trainer::TrainingData::Samples samples_;  // Of the first step, for the phases that go alone.
  std::optional<diffusion::GaussianDiffusion> diffusion_;
  std::optional<diffusion::TrainingLoss> loss_;
  std::unique_ptr<trainer::RunState> state_;
  std::unique_ptr<trainer::TrainStep> step_;
  std::unique_ptr<trainer::MetricWindow> window_;
  Allocations allocations_;
  // Sums of a round.
  struct CheckpointTimes {
    absl::Duration wait, write;
    absl::Duration alone, beside;  // The steps.
  };
  CheckpointTimes checkpoint_;
};

absl::Status RunRounds(const Flags& flags, const std::string& directory) {
  P2_ASSIGN_OR_RETURN(trainer::TrainOptions options, Resolve(flags, directory));
  const trainer::TrainSpec& spec = options.spec;
  P2_RETURN_IF_ERROR(
      WriteSyntheticDataset(directory, spec.model.image_size, spec.model.in_channels, std::max(spec.batch, 32)));
  if (!flags.write_dataset.empty()) return absl::OkStatus();
  P2_ASSIGN_OR_RETURN(const std::unique_ptr<Bench> bench, Bench::Create(flags, std::move(options)));
  for (int round = 0; flags.wait || round < flags.rounds; ++round) {
    std::string line;
    if (flags.wait && !std::getline(std::cin, line)) break;
    json result;
    P2_RETURN_IF_ERROR(trainer::RunTorch("round", [&]() -> absl::Status {
      P2_ASSIGN_OR_RETURN(result, bench->Run());
      return absl::OkStatus();
    }));
    std::cout << result.dump() << std::endl;
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Flags flags;
  std::vector<std::string> names;
  for (const auto& [name, model] : Models()) names.push_back(name);
  CLI::App app("train_bench: times p2's training step on synthetic images");
  auto* const model = app.add_option("--model", flags.model, "What is trained")->check(CLI::IsMember(names));
  app.add_option("--preset", flags.preset, "A preset or a spec file instead")->excludes(model);
  app.add_option("--set", flags.set, "Override a value of the spec, e.g. model.dropout=0.1")->type_name("K=V");
  app.add_option("--batch", flags.batch, "Samples of a step; default: the model's")->check(CLI::PositiveNumber);
  app.add_option("--precision", flags.precision)->check(CLI::IsMember({"fp32", "bf16"}))->capture_default_str();
  app.add_option("--threads", flags.threads)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--steps", flags.steps, "Of a round")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--warmup", flags.warmup, "Steps before the first round")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--rounds", flags.rounds)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_flag("--wait", flags.wait, "A round for each line on stdin, until its end");
  app.add_option(
         "--phase", flags.phase,
         "step: all, with its phases; or alone: forward, optimizer (zeroing, AdamW, averages), checkpoint, random-map "
         "(t, noise)")
      ->check(CLI::IsMember({"step", "forward", "optimizer", "checkpoint", "random-map"}))
      ->capture_default_str();
  app.add_option("--phase-clock", flags.phase_clock, "Phases by the clock or in CPU time")
      ->check(CLI::IsMember({"wall", "cpu"}))
      ->capture_default_str();
  app.add_option("--weights", flags.weights, "Begin with these: a checkpoint or a .safetensors file");
  app.add_option("--write-dataset", flags.write_dataset, "Only write the model's synthetic images there")
      ->check(CLI::ExistingDirectory);
  CLI11_PARSE(app, argc, argv);

  InitLogging("train_bench", LogLevel::kWarning);
  std::string directory = flags.write_dataset;
  if (directory.empty() &&
      ::mkdtemp((directory = std::filesystem::temp_directory_path() / "train_bench-XXXXXX").data()) == nullptr) {
    std::fprintf(stderr, "train_bench: cannot make a directory like %s\n", directory.c_str());
    return 1;
  }
  const absl::Cleanup remove = [&] {
    if (flags.write_dataset.empty()) checkpoint::RemoveTree(directory);
  };
  const absl::Status done = RunRounds(flags, directory);
  if (!done.ok()) std::fprintf(stderr, "train_bench: %s\n", std::string(done.message()).c_str());
  return done.ok() ? 0 : 1;
}

}  // namespace
}  // namespace p2::bench

int main(int argc, char** argv) {
  p2::trainer::KeepFreedMemory();  // As p2-trainer.
  return p2::bench::Main(argc, argv);
}
