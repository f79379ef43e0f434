#include "worker/data/prefetcher.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "worker/random/philox.h"
#include "worker/random/streams.h"

namespace p2::data {
namespace {

// `record` is rows of `width` bytes.
void Mirror(absl::Span<uint8_t> record, size_t width) {
  for (size_t row = 0; row < record.size(); row += width)
    std::reverse(record.begin() + row, record.begin() + row + width);
}

}  // namespace

bool IsFlipped(uint64_t seed, uint64_t g) { return random::DrawScalar(seed, random::kFlipStream, g) >> 31 != 0; }

// Batches that nobody holds, kept for the next step. Thread-safe.
class Prefetcher::Ring : public std::enable_shared_from_this<Ring> {
 public:
  Ring(size_t bytes, size_t kept, std::function<BatchMemory(size_t)> allocate)
      : bytes_(bytes), kept_(kept), allocate_(std::move(allocate)) {}

  // Comes back here when its last holder lets go.
  std::shared_ptr<Batch> Take() {
    std::unique_ptr<Batch> batch;
    {
      absl::MutexLock lock(&mutex_);
      if (!free_.empty()) {
        batch = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (batch == nullptr) {
      batch = std::make_unique<Batch>();
      batch->pixels =
          allocate_ ? allocate_(bytes_) : BatchMemory(new uint8_t[bytes_], std::default_delete<uint8_t[]>());
      batch->bytes = bytes_;
    }
    return std::shared_ptr<Batch>(batch.release(), [ring = shared_from_this()](Batch* used) { ring->PutBack(used); });
  }

 private:
  void PutBack(Batch* used) {
    std::unique_ptr<Batch> batch(used);
    absl::MutexLock lock(&mutex_);
    if (free_.size() < kept_) free_.push_back(std::move(batch));
  }

  const size_t bytes_;
  const size_t kept_;
  const std::function<BatchMemory(size_t)> allocate_;
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Batch>> free_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<std::unique_ptr<Prefetcher>> Prefetcher::Create(const ShardReader& reader, Options options) {
  if (options.lo < 0 || options.lo >= options.hi || options.hi > options.batch || options.threads < 1 ||
      options.depth < 1) {
    return absl::InvalidArgumentError(absl::StrCat("samples [", options.lo, ", ", options.hi, ") of a batch of ",
                                                   options.batch, " with ", options.threads, " threads and depth ",
                                                   options.depth, " cannot be read ahead"));
  }
  if (const auto& crop = options.crop; crop && reader.manifest().resolution < crop->sides.most) {
    return absl::InvalidArgumentError(absl::StrCat("crops of ", crop->size, " pixels out of ", crop->sides.least,
                                                   " to ", crop->sides.most, " need images of ", crop->sides.most,
                                                   " pixels or more; these have ", reader.manifest().resolution));
  }
  return std::unique_ptr<Prefetcher>(new Prefetcher(reader, std::move(options)));
}

Prefetcher::Prefetcher(const ShardReader& reader, Options options)
    : reader_(reader),
      options_(std::move(options)),
      order_(options_.seed, reader.count()),
      ring_(std::make_shared<Ring>((options_.hi - options_.lo) * image_bytes(), options_.depth + 2, options_.allocate)),
      slots_(options_.depth) {
  absl::MutexLock lock(&mutex_);
  for (int i = 0; i < options_.threads; ++i) threads_.emplace_back([this] { Work(); });
}

Prefetcher::~Prefetcher() { Stop(); }

void Prefetcher::Stop() {
  std::vector<std::thread> threads;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    threads.swap(threads_);
  }
  for (std::thread& thread : threads) thread.join();
}

absl::StatusOr<std::shared_ptr<const Batch>> Prefetcher::Next() {
  absl::MutexLock lock(&mutex_);
  const auto arrived = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !failure_.ok() || slots_[delivered_ % slots_.size()].has_value();
  };
  mutex_.Await(absl::Condition(&arrived));
  if (stopping_) return absl::CancelledError("the prefetcher was stopped");
  if (!failure_.ok()) return failure_;
  Slot slot = *std::exchange(slots_[delivered_ % slots_.size()], std::nullopt);
  ++delivered_;
  if (slot.status.ok()) return std::move(slot.batch);
  failure_ = slot.status;
  return failure_;
}

void Prefetcher::Work() {
  for (;;) {
    uint64_t step;
    {
      absl::MutexLock lock(&mutex_);
      const auto may_start = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_ || !failure_.ok() || taken_ < delivered_ + slots_.size();
      };
      mutex_.Await(absl::Condition(&may_start));
      if (stopping_ || !failure_.ok()) return;
      step = taken_++;
    }
    std::shared_ptr<Batch> batch = ring_->Take();
    Slot slot;
    slot.status = Fill(step, *batch);
    slot.batch = std::move(batch);
    absl::MutexLock lock(&mutex_);
    slots_[step % slots_.size()] = std::move(slot);
  }
}

absl::Status Prefetcher::Fill(uint64_t step, Batch& batch) const {
  const size_t count = static_cast<size_t>(options_.hi - options_.lo), size = image_bytes();
  batch.first_sample =
      options_.first_sample + step * static_cast<uint64_t>(options_.batch) + static_cast<uint64_t>(options_.lo);
  batch.images.resize(count);
  batch.flipped.resize(count);
  for (size_t i = 0; i < count; ++i) {
    const uint64_t g = batch.first_sample + i;
    const absl::Span<uint8_t> record = absl::MakeSpan(batch.pixels.get() + i * size, size);
    batch.images[i] = order_.ImageOf(g);
    batch.flipped[i] = options_.random_flip && IsFlipped(options_.seed, g);
    P2_RETURN_IF_ERROR(ReadImage(batch, i, record));
    if (batch.flipped[i]) Mirror(record, static_cast<size_t>(side()));
  }
  return absl::OkStatus();
}

absl::Status Prefetcher::ReadImage(const Batch& batch, size_t i, absl::Span<uint8_t> out) const {
  if (!options_.crop) return reader_.Read(batch.images[i], out);
  std::vector<uint8_t> record(reader_.record_bytes());
  P2_RETURN_IF_ERROR(reader_.Read(batch.images[i], absl::MakeSpan(record)));
  const image::DatasetManifest& set = reader_.manifest();
  return CropRecord(record, set.channels, set.resolution, CropOf(options_.seed, batch.first_sample + i, *options_.crop),
                    options_.crop->size, out);
}

}  // namespace p2::data
