// When and how the gang saves and loads: rank 0 touches the files, all ranks agree on the outcome.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "worker/checkpoint/checkpoint_writer.h"
#include "worker/dist/job_store.h"
#include "worker/dist/process_group.h"
#include "worker/trainer/rank_monitor.h"
#include "worker/trainer/run_state.h"

namespace p2::trainer {

// All ranks make the same calls in the same order. While rank 0 works the others wait at the store, not in a
// collective, so that no collective's timeout depends on a disk; they show rank 0's ticks as theirs. Thread-compatible.
class Checkpointer {
 public:
  // The references must outlive it.
  Checkpointer(const TrainOptions& options, RunState& state, dist::ProcessGroup& group, dist::JobStore& store,
               RankMonitor& monitor, EventSink& sink);

  // Saves the state. Returns after the copy; with `durable` after the checkpoint is complete and durable, also for what
  // was still being written. A checkpoint that fails in the background is a notice, and the next one tries again; a
  // durable one that fails is the error, marked 55.
  absl::Status Save(bool durable);

  // Loads the newest good checkpoint of this attempt or the candidates, on all ranks, and returns its path; "" if there
  // never was one, the state as initialized. Damaged ones are passed over with a notice. Marked 55 if there are
  // candidates and none is good.
  absl::StatusOr<std::string> LoadNewest();

  // Does `work` on rank 0 while the others wait as for a checkpoint; its result on all ranks.
  absl::Status OnRankZero(const std::function<absl::Status()>& work);
  // After the gang joined anew, once: ranks may have been at different calls when it broke.
  void Rejoined() { agreements_ = int64_t{1} << 40; }

  // Rank 0's: from the copy of the state to the moment when its checkpoint was durable, once for each.
  std::optional<absl::Duration> TakeDurableLag();

 private:
  void OnWritten(const absl::StatusOr<checkpoint::WrittenCheckpoint>& written);
  absl::Status SaveOnRankZero(bool durable);
  absl::StatusOr<std::string> LoadOnRankZero();
  // Rank 0's `result` on every rank; the others wait for it.
  absl::StatusOr<std::string> AgreeOn(const absl::StatusOr<std::string>& result, absl::Duration deadline);

  const TrainOptions& options_;
  RunState& state_;
  dist::ProcessGroup& group_;
  dist::JobStore& store_;
  RankMonitor& monitor_;
  EventSink& sink_;
  int64_t agreements_ = 0;

  // Rank 0's. The writer's thread changes these; others read them after writer_.Wait().
  std::vector<std::string> saved_;  // Names, newest first.
  int64_t saved_images_ = -1;       // Position of the newest.
  absl::Time copied_ = absl::InfinitePast();
  std::atomic<int64_t> durable_lag_ns_ = -1;  // -1: taken.
  checkpoint::BackgroundWriter writer_;
};

}  // namespace p2::trainer
