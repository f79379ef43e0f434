// How far drawing images is, on stderr: one line that is rewritten on a terminal, else a line now and then.
#pragma once

#include <cstdint>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace p2::trainer {

// Thread-safe.
class SamplingProgress {
 public:
  // `images` to be drawn, `steps` of all their chains together.
  SamplingProgress(int64_t images, int64_t steps);

  void AddSteps(int64_t steps);
  void AddImage();
  // Ends the line. "12 images in 3.1s, 3.871 images/s"
  std::string Finish();

 private:
  void Show(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  const int64_t images_;
  const int64_t steps_;
  const bool terminal_;
  const absl::Time begin_;

  absl::Mutex mutex_;
  int64_t images_done_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t steps_done_ ABSL_GUARDED_BY(mutex_) = 0;
  bool line_open_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time next_line_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::trainer
