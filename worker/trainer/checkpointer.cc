#include "worker/trainer/checkpointer.h"

#include <filesystem>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/logging.h"
#include "common/status_macros.h"
#include "worker/checkpoint/checkpoint_reader.h"
#include "worker/trainer/exit_code.h"

namespace p2::trainer {
namespace {

namespace fs = std::filesystem;

constexpr absl::Duration kPoll = absl::Milliseconds(5);

// "<status code> <exit code> <text>": a result on its way through the store.
std::string Pack(const absl::StatusOr<std::string>& result) {
  return absl::StrCat(static_cast<int>(result.status().code()), " ", static_cast<int>(ExitCodeOf(result.status())), " ",
                      result.ok() ? *result : std::string(result.status().message()));
}

absl::StatusOr<std::string> Unpack(const std::string& packed) {
  const std::vector<std::string> parts = absl::StrSplit(packed, absl::MaxSplits(' ', 2));
  int code = 0, exit = 0;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[0], &code) || !absl::SimpleAtoi(parts[1], &exit)) {
    return absl::InternalError(absl::StrCat("rank 0 left \"", packed, "\" in the store"));
  }
  if (code == 0) return parts[2];
  return WithExit(static_cast<ExitCode>(exit),
                  absl::Status(static_cast<absl::StatusCode>(code), absl::StrCat("rank 0: ", parts[2])));
}

}  // namespace

Checkpointer::Checkpointer(const TrainOptions& options, RunState& state, dist::ProcessGroup& group,
                           dist::JobStore& store, RankMonitor& monitor, EventSink& sink)
    : options_(options),
      state_(state),
      group_(group),
      store_(store),
      monitor_(monitor),
      sink_(sink),
      writer_(
          options.checkpoint_dir,
          [&monitor] {
            // Behind training's back its files are nobody's progress.
            if (monitor.phase() != Phase::kStep) monitor.Tick();
          },
          [this](const absl::StatusOr<checkpoint::WrittenCheckpoint>& written) { OnWritten(written); }) {}

void Checkpointer::OnWritten(const absl::StatusOr<checkpoint::WrittenCheckpoint>& written) {
  if (!written.ok()) {
    sink_.Emit(Notice{"CHECKPOINT_FAILED", std::string(written.status().message()), {}});
    return;
  }
  durable_lag_ns_ = absl::ToInt64Nanoseconds(Clock::Real().Monotonic() - copied_);
  const checkpoint::Manifest& manifest = written->manifest;
  saved_images_ = manifest.images_seen;
  saved_.insert(saved_.begin(), written->name);
  const fs::path path = fs::path(options_.checkpoint_dir) / written->name;
  P2_LOG(kInfo) << "checkpoint " << path.filename().string() << " is durable";
  sink_.Emit(CheckpointSaved{manifest.images_seen, path.lexically_relative(options_.checkpoint_root).string(),
                             manifest.files, manifest.ema_profiles, written->manifest_sha256});
  if (!options_.prune_checkpoints) return;
  const std::vector<std::string> all = checkpoint::ListCheckpoints(options_.checkpoint_dir);
  for (size_t i = static_cast<size_t>(options_.spec.keep_last); i < all.size(); ++i) {
    checkpoint::RemoveTree(fs::path(options_.checkpoint_dir) / all[i]);  // A leftover does no harm.
  }
}

absl::Status Checkpointer::Save(bool durable) {
  return OnRankZero([&] { return SaveOnRankZero(durable); });
}

absl::Status Checkpointer::OnRankZero(const std::function<absl::Status()>& work) {
  absl::StatusOr<std::string> result = "";
  if (group_.rank() == 0) {
    if (const absl::Status status = work(); !status.ok()) result = status;
  }
  return AgreeOn(result, options_.spec.deadlines.save).status();
}

absl::Status Checkpointer::SaveOnRankZero(bool durable) {
  // A failure before this was a notice already.
  (void)writer_.Wait();
  if (saved_images_ == state_.position().images_seen) return absl::OkStatus();
  checkpoint::Snapshot snapshot = state_.TakeSnapshot();
  snapshot.epoch = options_.epoch;
  snapshot.attempt = options_.attempt;
  snapshot.spec_json = options_.spec_json;
  copied_ = Clock::Real().Monotonic();
  writer_.Start(std::move(snapshot));
  monitor_.Tick();
  return durable ? WithExit(ExitCode::kStorage, writer_.Wait()) : absl::OkStatus();
}

std::optional<absl::Duration> Checkpointer::TakeDurableLag() {
  const int64_t lag_ns = durable_lag_ns_.exchange(-1);
  return lag_ns < 0 ? std::nullopt : std::make_optional(absl::Nanoseconds(lag_ns));
}

absl::StatusOr<std::string> Checkpointer::LoadNewest() {
  absl::StatusOr<std::string> path = "";
  if (group_.rank() == 0) path = LoadOnRankZero();
  P2_ASSIGN_OR_RETURN(std::string loaded, AgreeOn(path, options_.spec.deadlines.start));
  if (loaded.empty()) state_.Initialize();
  if (loaded.empty() && !options_.source.empty()) {
    absl::StatusOr<std::string> read = options_.source;
    if (group_.rank() == 0) {
      if (absl::Status status = state_.LoadWeights(options_.source); !status.ok()) {
        const bool storage =
            absl::IsUnavailable(status) || absl::IsNotFound(status) || absl::IsResourceExhausted(status);
        read = storage ? WithExit(ExitCode::kStorage, std::move(status)) : status;
      }
    }
    P2_RETURN_IF_ERROR(AgreeOn(read, options_.spec.deadlines.start).status());
  }
  if (!loaded.empty() || !options_.source.empty()) P2_RETURN_IF_ERROR(state_.Broadcast(group_));
  monitor_.Tick();
  return loaded;
}

absl::StatusOr<std::string> Checkpointer::LoadOnRankZero() {
  (void)writer_.Wait();
  checkpoint::RemoveStaleTemporaries(options_.checkpoint_dir, options_.epoch);
  std::vector<std::string> candidates = saved_;
  candidates.insert(candidates.end(), options_.resume_candidates.begin(), options_.resume_candidates.end());
  std::string directory = options_.checkpoint_dir;
  if (candidates.empty() && options_.source_is_run) {
    const size_t slash = options_.source.rfind('/');
    directory = options_.source.substr(0, slash);
    candidates = {options_.source.substr(slash + 1)};
  }
  if (candidates.empty()) return "";
  absl::StatusOr<checkpoint::FirstGood> opened = checkpoint::OpenFirstGood(directory, candidates);
  if (!opened.ok()) return WithExit(ExitCode::kStorage, opened.status());
  const checkpoint::FirstGood good = *std::move(opened);
  for (const absl::Status& why : good.passed_over) {
    sink_.Emit(Notice{"CHECKPOINT_CORRUPT", absl::StrCat(why.message(), "; falling back to an older checkpoint"), {}});
  }
  if (good.checkpoint == nullptr) {
    return WithExit(ExitCode::kStorage,
                    absl::DataLossError(absl::StrCat("none of ", candidates.size(), " checkpoints in ", directory,
                                                     " is good; the last: ", good.passed_over.back().message())));
  }
  P2_RETURN_IF_ERROR(state_.Load(*good.checkpoint));
  return good.checkpoint->directory();
}

absl::StatusOr<std::string> Checkpointer::AgreeOn(const absl::StatusOr<std::string>& result, absl::Duration deadline) {
  if (group_.world_size() == 1) return result;
  const std::string key = absl::StrCat("rank0/result/", ++agreements_);
  if (group_.rank() == 0) {
    P2_RETURN_IF_ERROR(store_.Set(key, Pack(result)));
    return result;
  }
  std::string seen_tick;
  for (const absl::Time end = Clock::Real().Monotonic() + deadline;;) {
    P2_ASSIGN_OR_RETURN(const bool there, store_.Has({key}));
    if (there) break;
    P2_ASSIGN_OR_RETURN(const bool ticking, store_.Has({kRankZeroTickKey}));
    if (ticking) {
      P2_ASSIGN_OR_RETURN(std::string tick, store_.Get(kRankZeroTickKey, absl::ZeroDuration()));
      if (std::exchange(seen_tick, tick) != tick) monitor_.Tick();
    }
    if (Clock::Real().Monotonic() > end) {
      return absl::UnavailableError(
          absl::StrCat("rank 0 did not finish with its checkpoint within ", absl::FormatDuration(deadline)));
    }
    absl::SleepFor(kPoll);
  }
  P2_ASSIGN_OR_RETURN(const std::string packed, store_.Get(key, absl::ZeroDuration()));
  return Unpack(packed);
}

}  // namespace p2::trainer
