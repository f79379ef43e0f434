// Batches of training images, read ahead by threads and delivered strictly in order.
//
// Step s of the run, counted from `first_sample`, takes samples first_sample + s * batch + [lo, hi) on this rank: any
// split of the global batch over ranks shows the same images. Each image is mirrored with probability 1/2 if
// `random_flip` (stream "flip": the top bit of word 0 of block 0 of sample g); with `crop` it is first cut out of the
// record as random_crop.h says. After a jump in the samples (a rollback
// that passes over steps) make a new one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "worker/data/random_crop.h"
#include "worker/data/sample_order.h"
#include "worker/data/shard_reader.h"

namespace p2::data {

// True if sample `g` is shown mirrored.
bool IsFlipped(uint64_t seed, uint64_t g);

// Bytes that hold one batch; freed by their deleter (pinned memory brings its own).
using BatchMemory = std::shared_ptr<uint8_t>;

// The images of one step on one rank.
struct Batch {
  uint64_t first_sample = 0;     // g of images[0]; the others follow without gaps.
  std::vector<uint64_t> images;  // Index in the dataset of each.
  std::vector<bool> flipped;
  BatchMemory pixels;  // uint8, (n, C, H, W), mirrored where flipped; H = W = the records' side, or the crops'.
  size_t bytes = 0;
};

// Thread-safe.
class Prefetcher {
 public:
  struct Options {
    uint64_t seed = 0;
    bool random_flip = true;
    std::optional<CropOptions> crop;  // Of records of at least crop->sides.most pixels.
    uint64_t first_sample = 0;        // g of the first step's first sample, over all ranks.
    int64_t batch = 0;                // REQUIRED. Samples of a step over all ranks, at least 1.
    int64_t lo = 0;                   // REQUIRES: 0 <= lo < hi <= batch. This rank's part of each step.
    int64_t hi = 0;
    int threads = 2;  // REQUIRES: at least 1.
    int depth = 4;    // Steps read ahead. REQUIRES: at least 1.
    // Memory for one batch; called from the threads, reused afterwards. Empty: the heap.
    std::function<BatchMemory(size_t bytes)> allocate;
  };

  // `reader` must outlive this and the reading. INVALID_ARGUMENT if an option breaks its REQUIRES.
  static absl::StatusOr<std::unique_ptr<Prefetcher>> Create(const ShardReader& reader, Options options);
  // Stops.
  ~Prefetcher();

  // The next step's batch; waits for it. Its memory goes back to the ring when the last copy of the pointer is gone,
  // also after this has been destroyed. A record that cannot be read is the error (DATA_LOSS, UNAVAILABLE) of that
  // batch and of all later calls. CANCELLED after Stop.
  absl::StatusOr<std::shared_ptr<const Batch>> Next();

  // Wakes waiting calls and joins the threads. Idempotent.
  void Stop();

 private:
  class Ring;
  struct Slot {
    absl::Status status;
    std::shared_ptr<const Batch> batch;
  };

  Prefetcher(const ShardReader& reader, Options options);
  void Work();
  absl::Status Fill(uint64_t step, Batch& batch) const;
  absl::Status ReadImage(const Batch& batch, size_t i, absl::Span<uint8_t> out) const;
  // Side of the images that are delivered.
  int side() const { return options_.crop ? options_.crop->size : reader_.manifest().resolution; }
  size_t image_bytes() const { return static_cast<size_t>(reader_.manifest().channels) * side() * side(); }

  // Constant after construction.
  const ShardReader& reader_;
  const Options options_;
  const SampleOrder order_;
  const std::shared_ptr<Ring> ring_;

  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;      // Steps that a thread has begun.
  uint64_t delivered_ ABSL_GUARDED_BY(mutex_) = 0;  // Steps that Next has returned.
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::optional<Slot>> slots_ ABSL_GUARDED_BY(mutex_);  // Step s waits in slot s mod depth.
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::data
