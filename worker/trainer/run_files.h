// The files that a run keeps in its own directory for other tools: tensorboard/ (event files) and progress.csv.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "worker/trainer/events.h"
#include "worker/trainer/progress_csv.h"
#include "worker/trainer/tensorboard_writer.h"
#include "worker/trainer/train_options.h"

namespace p2::trainer {

// Hands every event on to another sink and writes what rank 0 reports; a rank that never tells of its start leaves no
// file. Each attempt opens an event file of its own; what an earlier one told of steps past the resumed position is
// dropped, in progress.csv from the file, in TensorBoard by its reader. The same after a rollback inside an attempt.
// Steps in TensorBoard are images seen. A file that cannot be written is a notice, RUN_FILE_FAILED, and is left alone
// until the next attempt. Thread-safe.
class RunFiles final : public EventSink {
 public:
  // Both must outlive it.
  RunFiles(const TrainOptions& options, EventSink& next) : options_(options), next_(next) {}

  void Emit(const Event& event) override;

 private:
  absl::Status OpenEvents(const Started& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Write(const Started& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Write(const MetricPoints& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Write(const ArtifactWritten& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // If it failed: a notice, and `file` is done with.
  template <typename File>
  void Check(const absl::Status& status, std::unique_ptr<File>& file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const TrainOptions& options_;
  EventSink& next_;
  absl::Mutex mutex_;
  std::unique_ptr<TensorboardWriter> events_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<ProgressCsv> csv_ ABSL_GUARDED_BY(mutex_);
  int64_t reported_ ABSL_GUARDED_BY(mutex_) = 0;  // Position of the last report.
};

}  // namespace p2::trainer
