// Reports of a run without a service: a progress line on stdout.
#pragma once

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "worker/trainer/events.h"

namespace p2::trainer {

// Thread-safe.
class StandaloneSink final : public EventSink {
 public:
  // `out_dir`: where the files that it names lie. `total_images`: training.images.
  StandaloneSink(const std::string& out_dir, int64_t total_images);

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
  double loss_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time next_line_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  bool line_open_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace p2::trainer
