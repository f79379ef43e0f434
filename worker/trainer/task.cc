#include "worker/trainer/task.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/trainer/checkpoint_export.h"
#include "worker/trainer/draw_reconstructions.h"
#include "worker/trainer/draw_samples.h"
#include "worker/trainer/ema_reconstruction.h"
#include "worker/trainer/fingerprint.h"
#include "worker/trainer/published_import.h"
#include "worker/trainer/rank_monitor.h"
#include "worker/trainer/torch_status.h"

namespace p2::trainer {
namespace {

constexpr char kGridFile[] = "grid.png";

class TaskRun {
 public:
  TaskRun(const TrainOptions& options, EventSink& sink, RankMonitor& monitor)
      : options_(options), sink_(sink), monitor_(monitor) {}

  int64_t images() const { return images_; }

  // Whether it is done (true) or was stopped (false).
  absl::StatusOr<bool> Run() {
    if (const auto* sample = std::get_if<SampleTask>(&*options_.task)) return Draw(*sample);
    if (!IsRankZero()) return true;
    monitor_.SetPhase(Phase::kSave);
    sink_.Emit(Started{});
    if (const auto* import = std::get_if<ImportTask>(&*options_.task)) {
      P2_RETURN_IF_ERROR(Import(*import));
    } else if (const auto* exported = std::get_if<ExportTask>(&*options_.task)) {
      P2_RETURN_IF_ERROR(
          ExportCheckpoint({options_.source, exported->format, options_.output_dir, exported->ema, exported->raw}));
    } else {
      P2_RETURN_IF_ERROR(Average(std::get<AverageTask>(*options_.task)));
    }
    return true;
  }

 private:
  absl::StatusOr<bool> Draw(const SampleTask& task) {
    std::atomic<int64_t> done = 0;
    int64_t share = 0, total = 0;
    // As far as the gang would be if every rank were as far as this one: the slowest rank's is the job's.
    const auto position = [&] { return share == 0 ? total : done * total / share; };
    const int world_size = options_.place.world_size;
    const SampleHooks hooks{.stopping = [this] { return monitor_.stopping(); },
                            .on_ready =
                                [&](const SamplingSetup& setup, int64_t kept, int64_t of, int64_t all) {
                                  done = kept;
                                  share = of;
                                  total = all;
                                  SaidReady(setup, position());
                                },
                            .on_step = [this] { monitor_.Tick(); },
                            .on_assemble = [this] { monitor_.SetPhase(Phase::kSave); },
                            .on_image =
                                [&] {
                                  ++done;
                                  monitor_.Completed(position(), world_size);
                                }};
    P2_ASSIGN_OR_RETURN(const SampleResult result, task.reconstruct ? Reconstruct(task, hooks) : Sample(task, hooks));
    images_ = result.done ? total : position();
    P2_LOG(kInfo) << result.summary << (result.whole.empty() ? "" : absl::StrCat("; ", result.whole));
    const bool sheet = task.reconstruct || task.format == "grid";
    if (sheet && !result.whole.empty()) P2_RETURN_IF_ERROR(KeepGrid(result.whole));
    return result.done;
  }

  absl::StatusOr<SampleResult> Sample(const SampleTask& task, const SampleHooks& hooks) const {
    SampleOptions options;
    Fill(task, &options);
    options.format = task.format;
    return DrawSamples(options, hooks);
  }

  absl::StatusOr<SampleResult> Reconstruct(const SampleTask& task, const SampleHooks& hooks) const {
    ReconstructOptions options;
    Fill(task, &options);
    options.images = {options_.dataset_dir};
    options.timesteps = task.reconstruct->timesteps;
    options.snrs = task.reconstruct->snrs;
    return DrawReconstructions(options, hooks);
  }

  void Fill(const SampleTask& task, SamplingFlags* flags) const {
    flags->checkpoint = options_.source;
    flags->out = options_.output_dir;
    flags->steps = task.steps;
    flags->ddim_eta = task.ddim_eta;
    flags->ema = task.ema;
    flags->raw = task.raw;
    flags->seed = task.seed;
    flags->first = task.first;
    flags->count = task.count;
    flags->no_clip = task.no_clip;
    flags->threads = options_.place.threads;
  }

  void SaidReady(const SamplingSetup& setup, int64_t position) {
    monitor_.SetPhase(Phase::kStep);
    monitor_.Completed(position, 0);
    if (!IsRankZero()) return;
    TrainOptions as_trained = options_;
    as_trained.spec = setup.spec;
    int64_t parameters = 0;
    for (const auto& parameter : setup.unet->parameters()) parameters += parameter.numel();
    sink_.Emit(Started{position, options_.source,
                       NumericsFingerprint(as_trained, DeviceOf(setup.place), setup.sampler.threads, /*microbatch=*/0),
                       parameters});
  }

  // The sheet also goes to p2d.
  absl::Status KeepGrid(const std::string& sheet) {
    std::ifstream from(sheet, std::ios::binary);
    std::ofstream to(absl::StrCat(options_.work_dir, "/", kGridFile), std::ios::binary);
    to << from.rdbuf();
    if (!from || !to.flush()) {
      return WithExit(ExitCode::kStorage,
                      absl::UnavailableError(absl::StrCat("cannot copy ", sheet, " to ", options_.work_dir)));
    }
    sink_.Emit(ArtifactWritten{kGridFile, "samples", "image/png", images_});
    return absl::OkStatus();
  }

  absl::Status Import(const ImportTask& task) {
    ImportOptions options;
    P2_ASSIGN_OR_RETURN(options.files, FindPublishedFiles(options_.source, task.step, options_.spec));
    options.partial = task.partial;
    options.parent = options_.checkpoint_dir;
    options.epoch = options_.epoch;
    options.attempt = options_.attempt;
    P2_ASSIGN_OR_RETURN(const checkpoint::WrittenCheckpoint written, ImportPublished(options_, options));
    images_ = written.manifest.images_seen;
    const std::filesystem::path path = std::filesystem::path(options_.checkpoint_dir) / written.name;
    sink_.Emit(CheckpointSaved{images_, path.lexically_relative(options_.checkpoint_root).string(),
                               written.manifest.files, written.manifest.ema_profiles, written.manifest_sha256});
    return absl::OkStatus();
  }

  absl::Status Average(const AverageTask& task) {
    EmaReconstructionOptions options{
        .snapshots = options_.source, .at_images = task.images_seen, .sigma_rel = task.sigma_rel};
    options.out = absl::StrCat(options_.output_dir, "/ema_s", task.sigma_rel, ".safetensors");
    options.progress = [this](size_t, size_t) { monitor_.Tick(); };
    absl::StatusOr<EmaReconstructionReport> made = ReconstructEmaFile(options);
    if (absl::IsNotFound(made.status())) made = ReconstructEmaFile(options);  // A live run thins its snapshots out.
    P2_RETURN_IF_ERROR(made.status());
    const EmaReconstructionReport& report = *made;
    images_ = report.images_seen;
    std::fputs(Describe(report, options).c_str(), stdout);
    return absl::OkStatus();
  }

  bool IsRankZero() const { return options_.place.rank == 0; }

  const TrainOptions& options_;
  EventSink& sink_;
  RankMonitor& monitor_;
  int64_t images_ = 0;
};

// What a task returns, less torch's exceptions, is of files: a disk that is full or away is no lack of memory and no
// peer.
absl::Status OfStorage(absl::Status status) {
  const bool storage = absl::IsResourceExhausted(status) || absl::IsUnavailable(status) || absl::IsNotFound(status);
  return storage ? WithExit(ExitCode::kStorage, std::move(status)) : status;
}

}  // namespace

ExitCode RunTask(const TrainOptions& options, EventSink& sink, const TrainerHooks& hooks) {
  absl::StatusOr<bool> done = false;
  int64_t images = 0;
  {
    RankMonitor monitor({.stop = hooks.stop, .command_fd = hooks.command_fd, .is_stop = hooks.is_stop}, sink);
    TaskRun run(options, sink, monitor);
    const absl::Status status = RunTorch("task", [&]() -> absl::Status {
      done = run.Run();
      return OfStorage(done.status());
    });
    if (!status.ok()) done = status;
    images = run.images();
  }
  return ReportEnd(done, images, sink);
}

}  // namespace p2::trainer
