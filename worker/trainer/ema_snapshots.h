// Snapshots of the power-function averages through a run, from which averages of other widths are made afterwards
// (ema_reconstruction.h).
//
// They lie in ema-snapshots/ beside the checkpoints, each a directory that is written, verified and named as a
// checkpoint is, but holds the power-function averages alone. One is due at every ema_snapshots.every_images and one at
// the end. Which of them stay follows from the position alone (spec::SnapshotStride), so nothing is remembered: with
// `most` of them every second one goes and the interval doubles. Ranks of an older epoch that were cut off and run on
// write under their epoch: they touch nothing of a newer one, which replaces theirs when it gets there, and a reader
// passes over what an older epoch wrote beyond the first snapshot of a newer one.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "worker/checkpoint/checkpoint_writer.h"
#include "worker/trainer/events.h"
#include "worker/trainer/rank_monitor.h"
#include "worker/trainer/run_state.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

// Rank 0's. A snapshot that cannot be written is a notice and harms nothing else. Thread-compatible. May throw as torch
// does.
class EmaSnapshots {
 public:
  // The references must outlive it.
  EmaSnapshots(const TrainOptions& options, RunState& state, RankMonitor& monitor, EventSink& sink);

  // After each load: removes what lies behind the state's position, which the run passes anew, and what writers of
  // earlier epochs left unfinished.
  void Rewind();
  // At a position where one is due, or the run ends (`last`): waits for the one before, then until the averages are
  // copied; `last` until they are durable. Does nothing if the position has its snapshot or the stride passes over it.
  void Take(bool last);

 private:
  void OnWritten(const absl::StatusOr<checkpoint::WrittenCheckpoint>& written);
  int64_t Due(int64_t images) const { return images / options_.spec.snapshot_every_images; }

  const TrainOptions& options_;
  const std::string directory_;
  RunState& state_;
  EventSink& sink_;
  // What lies up to here is this run's, whichever epoch wrote it. Not written while the writer runs.
  int64_t loaded_ = 0;
  checkpoint::BackgroundWriter writer_;
};

}  // namespace p2::trainer
