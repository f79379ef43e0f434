#include "worker/trainer/trainer.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/logging.h"
#include "common/spec/weighting.h"
#include "common/status_macros.h"
#include "worker/trainer/available_memory.h"
#include "worker/trainer/checkpointer.h"
#include "worker/trainer/device_copy.h"
#include "worker/trainer/ema_snapshots.h"
#include "worker/trainer/fingerprint.h"
#include "worker/trainer/metric_window.h"
#include "worker/trainer/microbatch.h"
#include "worker/trainer/preview.h"
#include "worker/trainer/rank_monitor.h"
#include "worker/trainer/step_times.h"
#include "worker/trainer/step_verdicts.h"
#include "worker/trainer/torch_status.h"
#include "worker/trainer/train_step.h"
#include "worker/trainer/training_data.h"

namespace p2::trainer {
namespace {

constexpr char kOutOfMemoryKey[] = "out_of_memory";  // In the store: the rank that was.
constexpr int kMaxRollbacks = 2;                     // Without a new good checkpoint between them.

// Whether a schedule of every `every` images fires on the way from `before` to `after`.
bool Crosses(int64_t before, int64_t after, int64_t every) { return every > 0 && before / every != after / every; }

class Trainer {
 public:
  Trainer(const TrainOptions& options, EventSink& sink, const TrainerHooks& hooks, RankMonitor& monitor)
      : options_(options), spec_(options.spec), sink_(sink), hooks_(hooks), monitor_(monitor) {}

  int64_t images_seen() const { return state_ ? state_->position().images_seen : 0; }

  // Whether the run is done (true) or was stopped (false).
  absl::StatusOr<bool> Run() {
    P2_RETURN_IF_ERROR(Validate(options_));
    P2_RETURN_IF_ERROR(FormGang());
    P2_RETURN_IF_ERROR(RunTorch("build", [&] { return Build(); }));
    P2_RETURN_IF_ERROR(RunTorch("resume", [&] { return Resume(); }));
    bool done = false;
    const auto train = [&]() -> absl::Status {
      P2_ASSIGN_OR_RETURN(done, Loop());
      return absl::OkStatus();
    };
    if (const absl::Status failed = RunTorch("train", train); !failed.ok()) {
      P2_RETURN_IF_ERROR(RunTorch("halve the microbatch", [&] { return HalveAfter(failed); }));
      if (const absl::Status again = RunTorch("train", train); !again.ok())
        return WithMemoryAdvice(again, spec_, microbatch_);
    }
    P2_RETURN_IF_ERROR(RunTorch("finish", [&] { return Finish(done); }));
    return done;
  }

 private:
  absl::Status FormGang() {
    const Place& place = options_.place;
    threads_ = ConfigureNumerics(place, spec_);
    P2_RETURN_IF_ERROR(WithExit(ExitCode::kBadSpec, RunTorch("device", [&] {
                                  device_ = DeviceOf(place);
                                  if (device_.is_cuda()) c10::impl::VirtualGuardImpl(device_.type()).setDevice(device_);
                                })));
    dist::GroupOptions group;
    group.rank = place.rank;
    group.world_size = place.world_size;
    group.master_address = place.master_address;
    group.master_port = place.master_port;
    group.listen_fd = place.store_fd;
    group.key_prefix = absl::StrCat(options_.epoch, "/", place.rendezvous_nonce);
    group.data_interface = place.data_interface;
    group.start_timeout = spec_.deadlines.start;
    group.operation_timeout = spec_.deadlines.step;
    group.device = device_;
    group.backend = place.backend;
    monitor_.Forming();
    P2_ASSIGN_OR_RETURN(group_, dist::ProcessGroup::Create(group));
    P2_RETURN_IF_ERROR(monitor_.Formed(*group_));
    P2_ASSIGN_OR_RETURN(store_, group_->NewStore());
    monitor_.Tick();
    return absl::OkStatus();
  }

  absl::Status Build() {
    P2_ASSIGN_OR_RETURN(data_, TrainingData::Open(options_, device_));
    P2_ASSIGN_OR_RETURN(const spec::NoiseSchedule schedule,
                        spec::MakeNoiseSchedule(spec_.noise_schedule, spec_.timesteps));
    P2_ASSIGN_OR_RETURN(const std::vector<double> weights,
                        spec::ObjectiveWeights(spec_.weight, spec_.gamma, spec_.k, schedule));
    diffusion_.emplace(
        schedule, spec_.learn_sigma ? diffusion::VarianceKind::kLearnedRange : diffusion::VarianceKind::kFixedLarge,
        device_);
    loss_.emplace(*diffusion_, weights, diffusion::LossOptions{.rescale_vb = spec_.rescale_learned_sigmas});
    monitor_.Tick();
    state_ = std::make_unique<RunState>(spec_, device_, hooks_.on_copy);
    monitor_.Tick();
    microbatch_ = spec_.microbatch;
    if (spec_.microbatch == kAutoMicrobatch) {
      P2_ASSIGN_OR_RETURN(microbatch_,
                          FittingMicrobatch(options_, *state_, *group_,
                                            hooks_.available_memory ? hooks_.available_memory() : AvailableMemory()));
    }
    fingerprint_ = NumericsFingerprint(options_, device_, threads_, microbatch_);
    window_ = std::make_unique<MetricWindow>(*group_, schedule.snr, spec_.leaves);
    if (spec_.preview_every_images >= 0) preview_ = std::make_unique<Preview>(spec_, *state_, *group_);
    checkpointer_ = std::make_unique<Checkpointer>(options_, *state_, *group_, *store_, monitor_, sink_);
    snapshots_ = std::make_unique<EmaSnapshots>(options_, *state_, monitor_, sink_);
    monitor_.Tick();
    return absl::OkStatus();
  }

  absl::Status Resume() {
    P2_ASSIGN_OR_RETURN(const std::string loaded_from, checkpointer_->LoadNewest());
    if (IsRankZero()) snapshots_->Rewind();
    checkpoint::TrainState& position = state_->position();
    const std::string& set = data_->fingerprint();
    if (!position.dataset_fingerprint.empty() && position.dataset_fingerprint != set) {
      return WithExit(ExitCode::kData,
                      absl::FailedPreconditionError(absl::StrCat("checkpoint ", loaded_from, " was trained on dataset ",
                                                                 position.dataset_fingerprint, ", this is ", set)));
    }
    if (const auto recorded = RecordedMicrobatch(position.fingerprint, fingerprint_,
                                                 /*fitting=*/spec_.microbatch == kAutoMicrobatch)) {
      fingerprint_["microbatch"] = *recorded;
      microbatch_ = MicrobatchOf(*recorded);
    }
    if (const std::string change = DescribeChange(position.fingerprint, fingerprint_);
        !loaded_from.empty() && !change.empty()) {
      if (spec_.bitwise_required) {
        return absl::FailedPreconditionError(
            absl::StrCat("training.bitwise is required, but numbers computed here differ from those of ", loaded_from,
                         ": ", change, "; go on where these are as they were, or with bitwise: best_effort"));
      }
      if (IsRankZero()) {
        sink_.Emit(
            Notice{"NUMERICS_CHANGED", absl::StrCat("resumed where the last bits of numbers differ: ", change), {}});
      }
    }
    MakeStep();
    position.fingerprint = fingerprint_;
    position.dataset_fingerprint = set;
    std::vector<checkpoint::SampleRange> known;
    for (const SkippedSamples& range : options_.skipped) known.push_back({range.begin, range.end});
    AddSkipped(known, &position.skipped);
    window_->Restore(position.metric_sums);
    monitor_.Completed(position.images_seen, 0);
    P2_LOG(kInfo) << "rank " << options_.place.rank << " of " << group_->world_size() << " on " << device_.str() << ", "
                  << threads_ << " threads: " << state_->flat().layout().num_parameters() << " parameters, "
                  << (loaded_from.empty() ? "new run" : absl::StrCat("resumes from ", loaded_from)) << " at "
                  << position.images_seen << " of " << spec_.images << " images"
                  << (spec_.microbatch == kAutoMicrobatch ? absl::StrCat(", microbatch ", microbatch_) : "");
    if (IsRankZero()) {
      sink_.Emit(Started{position.images_seen, loaded_from, fingerprint_, state_->flat().layout().num_parameters()});
    }
    return absl::OkStatus();
  }

  // True when training.images is reached, false when stopped.
  absl::StatusOr<bool> Loop() {
    P2_RETURN_IF_ERROR(data_->Seek(images_seen()));
    monitor_.SetPhase(Phase::kStep);
    StartWindow();
    int64_t before = images_seen();  // Behind the last step: what is passed over skips no schedule.
    while (state_->position().images_seen < spec_.images) {
      P2_ASSIGN_OR_RETURN(const bool may, monitor_.MayEnqueue(++iteration_));
      if (!may) return false;
      P2_ASSIGN_OR_RETURN(const bool passed_over, PassOverSkipped());
      if (passed_over) continue;
      P2_RETURN_IF_ERROR(Step());
      P2_ASSIGN_OR_RETURN(const bool rolled_back, Judge());
      if (hooks_.on_step) hooks_.on_step(images_seen());
      if (rolled_back) {
        before = images_seen();
        continue;
      }
      const int64_t after = state_->position().images_seen;
      if (Crosses(before, after, spec_.log_every_images)) P2_RETURN_IF_ERROR(Report());
      if (after >= spec_.images) break;  // Finish saves and draws.
      if (Crosses(before, after, spec_.snapshot_every_images)) P2_RETURN_IF_ERROR(TakeSnapshot(/*last=*/false));
      if (Crosses(before, after, spec_.checkpoint_every_images)) P2_RETURN_IF_ERROR(Save(/*durable=*/false));
      if (Crosses(before, after, spec_.preview_every_images)) P2_RETURN_IF_ERROR(Draw());
      before = after;
    }
    return true;
  }

  absl::Status Step() {
    times_.Begin();
    P2_ASSIGN_OR_RETURN(const TrainingData::Samples samples, data_->Next());
    times_.End("data");
    checkpoint::TrainState& position = state_->position();
    P2_ASSIGN_OR_RETURN(const StepResult result, step_->Run(
                                                     samples.x0, samples.first_sample, [this] { monitor_.Tick(); },
                                                     device_.is_cpu() ? &times_ : nullptr));
    NoteStall();
    verdicts_.Push({position.images_seen, position.images_seen + spec_.batch}, result.found_inf);
    position.images_seen += spec_.batch;
    ++position.step;
    window_->Add(result.terms, result.t, result.grad_norm, result.found_inf);
    return absl::OkStatus();
  }

  // Takes the verdicts that are due. True after a rollback.
  absl::StatusOr<bool> Judge() {
    while (const std::optional<StepVerdicts::Verdict> verdict = verdicts_.Pop()) {
      monitor_.Completed(verdict->samples.end, spec_.batch);
      if (verdict->bad) {
        bad_steps_.push_back(verdict->samples);
      } else {
        bad_steps_.clear();
        updated_since_rollback_ = true;
      }
      if (bad_steps_.size() < kBadStepsInARow) continue;
      P2_RETURN_IF_ERROR(RollBack());
      return true;
    }
    return false;
  }

  // Three bad steps in a row: an exact replay would fail the same way, so their samples are passed over from now on.
  absl::Status RollBack() {
    const std::vector<checkpoint::SampleRange> bad = std::exchange(bad_steps_, {});
    const std::string what = absl::StrCat("loss or gradient was not finite in the ", bad.size(), " steps of images ",
                                          bad.front().begin, " to ", bad.back().end);
    if (rollbacks_ == kMaxRollbacks) {
      return WithExit(ExitCode::kNumeric,
                      absl::AbortedError(absl::StrCat(
                          what, ", after ", rollbacks_,
                          " rollbacks without a new good checkpoint; a lower training.learning_rate may help")));
    }
    ++rollbacks_;
    updated_since_rollback_ = false;
    std::vector<checkpoint::SampleRange> skipped = state_->position().skipped;
    AddSkipped(bad, &skipped);
    P2_ASSIGN_OR_RETURN(const std::string loaded_from, Reload(skipped));
    if (IsRankZero()) {
      Notice notice{"DATA_SKIPPED",
                    absl::StrCat(what, "; back to ", loaded_from.empty() ? "the start" : loaded_from, " at ",
                                 images_seen(), " images, and past them"),
                    {}};
      for (const checkpoint::SampleRange& range : bad) notice.skipped.push_back({range.begin, range.end});
      sink_.Emit(notice);
    }
    StartWindow();
    return data_->Seek(images_seen());
  }

  void MakeStep() {
    step_ = std::make_unique<TrainStep>(spec_, *state_, *diffusion_, *loss_, *group_, microbatch_, hooks_);
  }

  // After this rank, or one that it waited for, ran out of memory: all go on from the last checkpoint with half the
  // microbatch, once an attempt. Returns `failed` where it is of another kind or halving is not allowed.
  absl::Status HalveAfter(const absl::Status& failed) {
    const bool mine = absl::IsResourceExhausted(failed);
    const int64_t share = LargestShare(spec_, static_cast<int>(group_->world_size()));
    const int64_t whole = microbatch_ > 0 ? std::min<int64_t>(microbatch_, share) : share;
    // NCCL's peers do not notice before their own deadline that a rank has left: there it is the next attempt's.
    const bool peers_would_wait = device_.is_cuda() && group_->world_size() > 1;
    if (spec_.leaves > 0 || spec_.bitwise_required || whole == 1 || peers_would_wait)
      return WithMemoryAdvice(failed, spec_, std::nullopt);
    if (mine) {
      // What a checkpoint or a preview takes does not follow the microbatch.
      if (monitor_.phase() != Phase::kStep) return failed;
      // Before the others see this rank leave.
      P2_RETURN_IF_ERROR(store_->Set(kOutOfMemoryKey, absl::StrCat(options_.place.rank)));
    } else {
      if (!absl::IsUnavailable(failed)) return failed;
      const absl::StatusOr<bool> told = store_->Has({kOutOfMemoryKey});
      if (!told.ok() || !*told) return failed;
    }
    P2_LOG(kWarning) << failed.message();
    step_.reset();  // It holds the group's connections.
    P2_RETURN_IF_ERROR(group_->Rejoin());
    at::Tensor iterations = at::full({1}, iteration_, at::TensorOptions(at::kLong).device(device_));
    P2_RETURN_IF_ERROR(group_->AllReduceMax(iterations));
    iteration_ = iterations.item<int64_t>();  // A rank may have been a step ahead.
    microbatch_ = (whole + 1) / 2;
    fingerprint_["microbatch"] =
        HalvedText(microbatch_, spec_.microbatch == kAutoMicrobatch ? whole : spec_.microbatch);
    MakeStep();
    checkpointer_->Rejoined();
    bad_steps_.clear();
    P2_ASSIGN_OR_RETURN(const std::string loaded_from, Reload(state_->position().skipped));
    P2_ASSIGN_OR_RETURN(const std::string rank, store_->Get(kOutOfMemoryKey, absl::ZeroDuration()));
    if (IsRankZero()) {
      sink_.Emit(Notice{
          "NUMERICS_CHANGED",
          absl::StrCat("rank ", rank, " ran out of memory: microbatch ", whole, " -> ", microbatch_, "; back to ",
                       loaded_from.empty() ? "the start" : loaded_from, " at ", images_seen(), " images"),
          {}});
    }
    return absl::OkStatus();
  }

  // Back to the newest checkpoint of this attempt or before, with `skipped` passed over; its path, "" for the start.
  absl::StatusOr<std::string> Reload(std::vector<checkpoint::SampleRange> skipped) {
    verdicts_.Clear();
    std::string loaded_from;
    P2_RETURN_IF_ERROR(InPhase(Phase::kSave, [&]() -> absl::Status {
      P2_ASSIGN_OR_RETURN(loaded_from, checkpointer_->LoadNewest());
      if (IsRankZero()) snapshots_->Rewind();
      return absl::OkStatus();
    }));
    checkpoint::TrainState& position = state_->position();
    position.skipped = std::move(skipped);
    position.fingerprint = fingerprint_;
    position.dataset_fingerprint = data_->fingerprint();
    window_->RollBack(position.metric_sums);
    return loaded_from;
  }

  // Moves the position past samples that are not to be trained on. True if it moved.
  absl::StatusOr<bool> PassOverSkipped() {
    checkpoint::TrainState& position = state_->position();
    for (const checkpoint::SampleRange& range : position.skipped) {
      if (position.images_seen < range.begin || position.images_seen >= range.end) continue;
      position.step += (range.end - position.images_seen) / spec_.batch;
      position.images_seen = range.end;
      P2_RETURN_IF_ERROR(data_->Seek(images_seen()));
      return true;
    }
    return false;
  }

  void StartWindow() {
    window_begin_ = Clock::Real().Monotonic();
    window_paused_ = absl::ZeroDuration();
    window_images_ = images_seen();
    times_.Clear();
  }

  absl::Status Report() {
    P2_ASSIGN_OR_RETURN(auto values, window_->Report());
    const double seconds = absl::ToDoubleSeconds(Clock::Real().Monotonic() - window_begin_ - window_paused_);
    const double images = static_cast<double>(images_seen() - window_images_);
    if (images > 0 && seconds > 0) {
      values["images_per_second"] = images / seconds;
      values["step_seconds"] = seconds * spec_.batch / images;
      values.merge(times_.Take(images / spec_.batch, values["step_seconds"]));
    }
    // Of the last checkpoint since the last report.
    if (const auto stall = std::exchange(checkpoint_stall_, std::nullopt))
      values["checkpoint_stall_seconds"] = absl::ToDoubleSeconds(*stall);
    if (const auto lag = checkpointer_->TakeDurableLag())
      values["checkpoint_durable_lag_seconds"] = absl::ToDoubleSeconds(*lag);
    if (IsRankZero()) state_->AddEmaDistances(&values);
    StartWindow();
    if (IsRankZero()) {
      P2_LOG(kInfo) << images_seen() << " images: loss " << values["loss"] << ", " << values["images_per_second"]
                    << " images/s";
      sink_.Emit(MetricPoints{images_seen(), state_->position().step, std::move(values)});
    }
    return absl::OkStatus();
  }

  // `work` in a phase of its own, whose time does not count as training's.
  template <typename F>
  absl::Status InPhase(Phase phase, F&& work) {
    const absl::Time begin = Clock::Real().Monotonic();
    monitor_.SetPhase(phase);
    absl::Status status = std::forward<F>(work)();
    monitor_.SetPhase(Phase::kStep);
    window_paused_ += Clock::Real().Monotonic() - begin;
    return status;
  }

  // `durable`: waits until it is. Else the next update may wait for the rest of its copy.
  absl::Status Save(bool durable) {
    NoteStall();
    const absl::Time begin = Clock::Real().Monotonic();
    const absl::Status saved = InPhase(monitor_.stopping() ? Phase::kStop : Phase::kSave, [&]() -> absl::Status {
      P2_ASSIGN_OR_RETURN(state_->position().metric_sums, window_->Fold());
      P2_RETURN_IF_ERROR(checkpointer_->Save(durable));
      if (updated_since_rollback_) rollbacks_ = 0;
      return absl::OkStatus();
    });
    stall_ = {images_seen(), Clock::Real().Monotonic() - begin};
    if (durable) NoteStall();
    return saved;
  }

  // When training waits no more for the last checkpoint.
  void NoteStall() {
    const absl::Duration waited = state_->TakeCopyWait();
    if (!stall_) return;
    checkpoint_stall_ = stall_->stood_still + waited;
    P2_LOG(kInfo) << "checkpoint at " << stall_->images_seen << " images: training stood still for "
                  << absl::ToDoubleMilliseconds(*checkpoint_stall_) << " ms";
    stall_.reset();
  }

  absl::Status TakeSnapshot(bool last) {
    return InPhase(monitor_.stopping() ? Phase::kStop : Phase::kSave, [&] {
      return checkpointer_->OnRankZero([&] {
        snapshots_->Take(last);
        return absl::OkStatus();
      });
    });
  }

  absl::Status Draw() {
    return InPhase(Phase::kPreview, [&]() -> absl::Status {
      const std::string file = PreviewFileName(images_seen());
      const absl::StatusOr<bool> drawn = preview_->Draw(
          absl::StrCat(options_.work_dir, "/", file), [this] { monitor_.Tick(); },
          [this] { return monitor_.stopping(); });
      if (ExitCodeOf(drawn.status()) == ExitCode::kStorage) {  // Rank 0's alone: a picture is not worth a run.
        sink_.Emit(Notice{"PREVIEW_FAILED", std::string(drawn.status().message()), {}});
        return absl::OkStatus();
      }
      P2_RETURN_IF_ERROR(drawn.status());
      if (*drawn && IsRankZero()) sink_.Emit(ArtifactWritten{file, "samples", "image/png", images_seen()});
      return absl::OkStatus();
    });
  }

  absl::Status Finish(bool done) {
    if (done && images_seen() > window_images_) P2_RETURN_IF_ERROR(Report());
    if (done && spec_.snapshot_every_images > 0) P2_RETURN_IF_ERROR(TakeSnapshot(/*last=*/true));
    P2_RETURN_IF_ERROR(Save(/*durable=*/true));
    if (done && preview_) P2_RETURN_IF_ERROR(Draw());
    P2_LOG(kInfo) << (done ? "done" : "stopped on request") << " at " << images_seen() << " images";
    if (device_.is_cuda()) {
      P2_LOG(kInfo) << "device memory: peak " << PeakDeviceMemory(device_) << " bytes";
    }
    monitor_.SetPhase(Phase::kStop);
    return Farewell();
  }

  // Rank 0 serves the store: it leaves when the others need it no more.
  absl::Status Farewell() {
    monitor_.Left();
    P2_ASSIGN_OR_RETURN(int64_t left, store_->Add("left", 1));
    const absl::Time deadline = Clock::Real().Monotonic() + options_.farewell_timeout;
    while (IsRankZero() && left < group_->world_size() && Clock::Real().Monotonic() < deadline) {
      absl::SleepFor(absl::Milliseconds(5));
      P2_ASSIGN_OR_RETURN(left, store_->Add("left", 0));
    }
    return absl::OkStatus();
  }

  bool IsRankZero() const { return options_.place.rank == 0; }

  const TrainOptions& options_;
  const TrainSpec& spec_;
  EventSink& sink_;
  const TrainerHooks& hooks_;
  RankMonitor& monitor_;

  // Made in this order, by FormGang and Build.
  at::Device device_ = at::kCPU;
  int threads_ = 1;
  std::unique_ptr<dist::ProcessGroup> group_;
  std::unique_ptr<dist::JobStore> store_;
  std::unique_ptr<TrainingData> data_;
  std::optional<diffusion::GaussianDiffusion> diffusion_;
  std::optional<diffusion::TrainingLoss> loss_;
  std::unique_ptr<RunState> state_;
  std::map<std::string, std::string> fingerprint_;
  std::unique_ptr<TrainStep> step_;
  std::unique_ptr<MetricWindow> window_;
  std::unique_ptr<Preview> preview_;  // Null where the spec wants none.
  std::unique_ptr<Checkpointer> checkpointer_;
  std::unique_ptr<EmaSnapshots> snapshots_;

  int64_t microbatch_ = 0;  // 0: the whole share.
  int64_t iteration_ = 0;   // The last one that was begun.

  StepVerdicts verdicts_;
  std::vector<checkpoint::SampleRange> bad_steps_;  // The last ones, without a good one between.
  int rollbacks_ = 0;                               // Since the last good checkpoint.
  bool updated_since_rollback_ = true;

  absl::Time window_begin_ = absl::InfinitePast();
  absl::Duration window_paused_;
  int64_t window_images_ = 0;
  StepTimes times_;
  struct Stall {
    int64_t images_seen = 0;
    absl::Duration stood_still;
  };
  std::optional<Stall> stall_;                      // Of a checkpoint that the next update may still wait for.
  std::optional<absl::Duration> checkpoint_stall_;  // Whole; until it is reported.
};

}  // namespace

ExitCode RunTrainer(const TrainOptions& options, EventSink& sink, const TrainerHooks& hooks) {
  absl::StatusOr<bool> done = false;
  int64_t images_seen = 0;
  {
    RankMonitor monitor({.stop = hooks.stop,
                         .command_fd = hooks.command_fd,
                         .is_stop = hooks.is_stop,
                         .stop_deadline = options.spec.deadlines.stop,
                         .leave_while_forming = hooks.leave_while_forming,
                         .on_stopping = hooks.on_stopping},
                        sink);
    Trainer trainer(options, sink, hooks, monitor);
    done = trainer.Run();
    images_seen = trainer.images_seen();
  }
  return ReportEnd(done, images_seen, sink);
}

ExitCode ReportEnd(const absl::StatusOr<bool>& done, int64_t images_seen, EventSink& sink) {
  Finished finished{Finished::Outcome::kFailed, static_cast<int>(ExitCodeOf(done.status())), images_seen,
                    std::string(done.status().message())};
  if (done.ok()) {
    finished.outcome = *done ? Finished::Outcome::kDone : Finished::Outcome::kStopped;
    finished.exit_code = static_cast<int>(*done ? ExitCode::kDone : ExitCode::kStopped);
  } else {
    P2_LOG(kError) << done.status().message();
  }
  sink.Emit(finished);
  return static_cast<ExitCode>(finished.exit_code);
}

}  // namespace p2::trainer
