#include "common/image/record_pipeline.h"

#include <utility>

#include "common/image/decode.h"
#include "common/image/pillow_resize.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

// Decoding holds up to this many bytes a pixel (decode.h) beside what the resize needs.
constexpr uint64_t kBytesPerPixel = 12;

absl::Status Cancelled() { return absl::CancelledError("stopped before the end"); }

absl::Status MakeRecord(absl::Span<const uint8_t> file, const PrepareOptions& options, Record& record) {
  const int channels = options.channels;
  P2_ASSIGN_OR_RETURN(Image image, Decode(file, channels, options.limits));
  if (options.exif) image = Upright(std::move(image), ExifOrientation(file));
  P2_ASSIGN_OR_RETURN(const Image crop, CenterCropAdm(image, options.resolution));
  record.pixels.resize(crop.pixels.size());
  const size_t plane = record.pixels.size() / channels;
  for (int c = 0; c < channels; ++c) {
    for (size_t i = 0; i < plane; ++i) record.pixels[c * plane + i] = crop.pixels[i * channels + c];
  }
  record.digest = Fingerprint::OfRecord(record.pixels);
  return absl::OkStatus();
}

}  // namespace

RecordPipeline::RecordPipeline(const ImageSource& source, const PrepareOptions& options, int threads, size_t first)
    : source_(source), options_(options), window_(static_cast<size_t>(threads) * 4), taken_(first), delivered_(first) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

RecordPipeline::~RecordPipeline() {
  Stop();
  for (std::thread& thread : threads_) thread.join();
}

void RecordPipeline::Stop() {
  absl::MutexLock lock(&mutex_);
  stopping_ = true;
}

absl::Status RecordPipeline::Next(Record& record) {
  const std::stop_callback wake(options_.stop, [this] { Stop(); });
  absl::MutexLock lock(&mutex_);
  const auto arrived = [this]()
                           ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || ready_.contains(delivered_); };
  mutex_.Await(absl::Condition(&arrived));
  if (stopping_) return Cancelled();
  Outcome outcome = std::move(ready_.extract(delivered_).mapped());
  ++delivered_;
  record = std::move(outcome.record);
  return outcome.status;
}

void RecordPipeline::Work() {
  absl::StatusOr<std::unique_ptr<ImageReader>> reader = source_.NewReader();
  for (;;) {
    size_t index;
    {
      absl::MutexLock lock(&mutex_);
      const auto may_start = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return stopping_ || taken_ >= source_.names().size() || taken_ < delivered_ + window_;
      };
      mutex_.Await(absl::Condition(&may_start));
      if (stopping_ || taken_ >= source_.names().size()) return;
      index = taken_++;
    }
    Outcome outcome;
    outcome.status = reader.ok() ? Make(**reader, index, outcome.record) : reader.status();
    absl::MutexLock lock(&mutex_);
    ready_.emplace(index, std::move(outcome));
  }
}

absl::Status RecordPipeline::Make(ImageReader& reader, size_t index, Record& record) {
  P2_ASSIGN_OR_RETURN(const std::vector<uint8_t> file, reader.Read(index));
  P2_ASSIGN_OR_RETURN(const ImageSize size, PeekSize(file, options_.limits));
  const uint64_t cost = static_cast<uint64_t>(size.width) * size.height * kBytesPerPixel;
  {
    absl::MutexLock lock(&mutex_);
    const auto fits = [this, cost]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return stopping_ || decoding_bytes_ == 0 || decoding_bytes_ + cost <= options_.memory_budget_bytes;
    };
    mutex_.Await(absl::Condition(&fits));
    if (stopping_) return Cancelled();
    decoding_bytes_ += cost;
  }
  const absl::Status made = MakeRecord(file, options_, record);
  absl::MutexLock lock(&mutex_);
  decoding_bytes_ -= cost;
  return made;
}

}  // namespace p2::image
