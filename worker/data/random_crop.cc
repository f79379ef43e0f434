#include "worker/data/random_crop.h"

#include "common/image/image.h"
#include "common/image/pillow_resize.h"
#include "common/status_macros.h"
#include "worker/random/philox.h"
#include "worker/random/streams.h"

namespace p2::data {

Crop CropOf(uint64_t seed, uint64_t g, const CropOptions& options) {
  const random::Words words = random::Draw(seed, random::kCropStream, g, 0);
  const auto below = [&](int word, int count) {
    return static_cast<int>(random::ScaleToRange(words.w[word], static_cast<uint32_t>(count)));
  };
  Crop crop;
  crop.side = options.sides.least + below(0, options.sides.most - options.sides.least + 1);
  crop.top = below(1, crop.side - options.size + 1);
  crop.left = below(2, crop.side - options.size + 1);
  return crop;
}

absl::Status CropRecord(absl::Span<const uint8_t> record, int channels, int resolution, const Crop& crop, int size,
                        absl::Span<uint8_t> out) {
  image::Image whole{resolution, resolution, channels};
  whole.pixels.resize(record.size());
  const size_t plane = record.size() / static_cast<size_t>(channels);
  const size_t stride = static_cast<size_t>(channels);
  for (size_t c = 0; c < stride; ++c) {
    for (size_t i = 0; i < plane; ++i) whole.pixels[i * stride + c] = record[c * plane + i];
  }
  P2_ASSIGN_OR_RETURN(const image::Image resized,
                      image::CenterCropAdm(whole, crop.side));  // Of a square it cuts nothing.
  size_t to = 0;
  for (size_t c = 0; c < stride; ++c) {
    for (int y = 0; y < size; ++y) {
      const uint8_t* const row = resized.pixels.data() + resized.row_bytes() * static_cast<size_t>(crop.top + y);
      for (int x = 0; x < size; ++x) out[to++] = row[static_cast<size_t>(crop.left + x) * stride + c];
    }
  }
  return absl::OkStatus();
}

}  // namespace p2::data
