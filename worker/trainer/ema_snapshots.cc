#include "worker/trainer/ema_snapshots.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/spec/power_ema.h"
#include "common/storage_layout.h"
#include "worker/checkpoint/checkpoint_reader.h"

namespace p2::trainer {

EmaSnapshots::EmaSnapshots(const TrainOptions& options, RunState& state, RankMonitor& monitor, EventSink& sink)
    : options_(options),
      directory_(absl::StrCat(RunDirectory(options), "/", kSnapshotsDirectory)),
      state_(state),
      sink_(sink),
      writer_(
          directory_,
          [&monitor] {
            // Behind training's back its files are nobody's progress.
            if (monitor.phase() != Phase::kStep) monitor.Tick();
          },
          [this](const absl::StatusOr<checkpoint::WrittenCheckpoint>& written) { OnWritten(written); }) {}

void EmaSnapshots::Rewind() {
  (void)writer_.Wait();  // A failure was a notice.
  loaded_ = state_.position().images_seen;
  checkpoint::RemoveStaleTemporaries(directory_, options_.epoch);
  for (const std::string& name : checkpoint::ListCheckpoints(directory_)) {
    int64_t images = 0, epoch = 0;
    checkpoint::ParseDirectoryName(name, &images, &epoch);
    if (images <= loaded_ || epoch > options_.epoch) continue;
    if (!checkpoint::RemoveTree(absl::StrCat(directory_, "/", name))) {
      sink_.Emit(Notice{"EMA_SNAPSHOT_FAILED",
                        absl::StrCat("cannot remove ", directory_, "/", name,
                                     ", which the run has gone back before; "
                                     "remove it, or reconstructed averages will be wrong"),
                        {}});
    }
  }
}

void EmaSnapshots::Take(bool last) {
  const TrainSpec& spec = options_.spec;
  const int64_t images = state_.position().images_seen, due = Due(images);
  if (!last && due % spec::SnapshotStride(due, spec.most_snapshots) != 0) return;
  (void)writer_.Wait();
  const std::vector<std::string> present = checkpoint::ListCheckpoints(directory_);
  const auto is_here = [&](const std::string& name) {
    int64_t at = 0, epoch = 0;
    return checkpoint::ParseDirectoryName(name, &at, &epoch) && at == images &&
           (epoch >= options_.epoch || at <= loaded_);
  };
  if (std::any_of(present.begin(), present.end(), is_here)) return;
  checkpoint::Snapshot snapshot = state_.TakePowerEmas();
  snapshot.epoch = options_.epoch;
  snapshot.attempt = options_.attempt;
  snapshot.spec_json = options_.spec_json;
  writer_.Start(std::move(snapshot));
  if (last) (void)writer_.Wait();
}

void EmaSnapshots::OnWritten(const absl::StatusOr<checkpoint::WrittenCheckpoint>& written) {
  if (!written.ok()) {
    sink_.Emit(Notice{"EMA_SNAPSHOT_FAILED", std::string(written.status().message()), {}});
    return;
  }
  const int64_t newest = written->manifest.images_seen;
  const int64_t stride = spec::SnapshotStride(Due(newest), options_.spec.most_snapshots);
  P2_LOG(kInfo) << "snapshot " << written->name << " of the averages is durable";
  for (const std::string& name : checkpoint::ListCheckpoints(directory_)) {
    int64_t images = 0, epoch = 0;
    checkpoint::ParseDirectoryName(name, &images, &epoch);
    const bool stale =
        images == newest && images > loaded_ && epoch < options_.epoch;  // Of ranks that were cut off and ran on.
    const bool kept = images == newest || Due(images) % stride == 0 || epoch > options_.epoch;
    if (!stale && kept) continue;
    checkpoint::RemoveTree(absl::StrCat(directory_, "/", name));  // A leftover goes with the next one.
  }
}

}  // namespace p2::trainer
