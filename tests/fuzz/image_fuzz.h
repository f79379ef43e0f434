// The body of the four decoders' targets.
#pragma once

#include "common/image/codec.h"
#include "tests/fuzz/fuzz_input.h"

namespace p2::fuzz {

inline constexpr int64_t kFuzzMaxPixels = 1 << 14;

// Size, orientation and pixels of one file, by the decoder itself: the magic bytes choose nothing here.
template <typename Peek, typename Decode>
void ReadImage(const uint8_t* data, size_t size, Peek&& peek, Decode&& decode) {
  const absl::Span<const uint8_t> file(data, size);
  if (size == 0) return;  // Decode answers those itself.
  const auto seen = peek(file, kFuzzMaxPixels);
  const int orientation = image::ExifOrientation(file);
  for (const int channels : {3, 1}) {
    absl::StatusOr<image::Image> image = decode(file, channels, kFuzzMaxPixels);
    if (!image.ok()) {
      Require(!image.status().message().empty(), "a refusal says why");
      continue;
    }
    Require(seen.ok() && seen->width == image->width && seen->height == image->height, "the header told the size");
    Require(int64_t{image->width} * image->height <= kFuzzMaxPixels, "the limit of pixels holds");
    Require(image->pixels.size() == image->row_bytes() * static_cast<size_t>(image->height), "all pixels are there");
    image::Upright(*std::move(image), orientation);
  }
}

}  // namespace p2::fuzz
