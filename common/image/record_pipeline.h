// Images to records in threads, in order; private to common/image.
#pragma once

#include <cstdint>
#include <map>
#include <stop_token>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/image/image_source.h"
#include "common/image/prepare.h"
#include "common/image/shard.h"

namespace p2::image {

// One image: decoded, cropped, (C, H, W).
struct Record {
  std::vector<uint8_t> pixels;
  Fingerprint::Digest digest;
};

// Decodes the images of a source in threads and hands the records out in order. A few per thread are ahead of the
// consumer; the pixels being decoded stay within the options' budget. Next belongs to one thread.
class RecordPipeline {
 public:
  // Begins at image `first`. `source` and `options` must outlive this. REQUIRES: threads >= 1.
  RecordPipeline(const ImageSource& source, const PrepareOptions& options, int threads, size_t first);
  // Stops and joins the threads.
  ~RecordPipeline();
  RecordPipeline(const RecordPipeline&) = delete;
  RecordPipeline& operator=(const RecordPipeline&) = delete;

  // Fills `record` with the next one, or says why its image cannot be read. CANCELLED once the options' stop is
  // requested. REQUIRES: called at most once for each image.
  absl::Status Next(Record& record);

 private:
  struct Outcome {
    absl::Status status;
    Record record;  // If the status is OK.
  };

  void Stop();
  void Work();
  absl::Status Make(ImageReader& reader, size_t index, Record& record);

  // Constant after construction.
  const ImageSource& source_;
  const PrepareOptions& options_;
  const size_t window_;  // Records ahead of the consumer.
  std::vector<std::thread> threads_;

  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  size_t taken_ ABSL_GUARDED_BY(mutex_);
  size_t delivered_ ABSL_GUARDED_BY(mutex_);
  uint64_t decoding_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<size_t, Outcome> ready_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::image
