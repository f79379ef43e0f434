// Reports of a run without a service: a progress line on stdout, metrics.csv beside the checkpoints.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/trainer/events.h"

namespace p2::trainer {

// Thread-safe.
class StandaloneSink final : public EventSink {
 public:
  // Appends to out_dir/metrics.csv, whose first line names the columns. `total_images`: training.images.
  StandaloneSink(const std::string& out_dir, int64_t total_images);
  ~StandaloneSink() override;

  void Emit(const Event& event) override;

 private:
  void Show(const Started& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Show(const Progress& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Show(const MetricPoints& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Show(const CheckpointSaved& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Show(const ArtifactWritten& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Show(const Finished& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Show(const Notice& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Line(const std::string& text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string out_dir_;
  const int64_t total_images_;
  const bool terminal_;  // stdout is one: the progress line is redrawn in place.
  absl::Mutex mutex_;
  std::FILE* csv_ ABSL_GUARDED_BY(mutex_);
  double loss_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time next_line_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  bool line_open_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace p2::trainer
