// The decoders behind Decode; private to common/image.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/image/decode.h"
#include "common/image/image.h"

namespace p2::image {

// INVALID_ARGUMENT if either side is 0 or the product passes `max_pixels`.
absl::Status CheckSize(uint64_t width, uint64_t height, int64_t max_pixels = kMaxPixels);

// Whether a file that begins so is of a format that Decode knows. Twelve bytes are enough.
bool IsImageStart(absl::Span<const uint8_t> start);

// The grey of a colour, as Pillow's convert("L").
constexpr uint8_t Luma(uint8_t r, uint8_t g, uint8_t b) {
  return static_cast<uint8_t>((r * 19595u + g * 38470u + b * 7471u + 0x8000u) >> 16);
}

absl::StatusOr<ImageSize> PeekJpeg(absl::Span<const uint8_t> file, int64_t max_pixels);
absl::StatusOr<ImageSize> PeekPng(absl::Span<const uint8_t> file, int64_t max_pixels);
absl::StatusOr<ImageSize> PeekWebp(absl::Span<const uint8_t> file, int64_t max_pixels);
absl::StatusOr<ImageSize> PeekGif(absl::Span<const uint8_t> file, int64_t max_pixels);
absl::StatusOr<Image> DecodeJpeg(absl::Span<const uint8_t> file, int channels, int64_t max_pixels);
absl::StatusOr<Image> DecodePng(absl::Span<const uint8_t> file, int channels, int64_t max_pixels);
absl::StatusOr<Image> DecodeWebp(absl::Span<const uint8_t> file, int channels, int64_t max_pixels);
absl::StatusOr<Image> DecodeGif(absl::Span<const uint8_t> file, int channels, int64_t max_pixels);

}  // namespace p2::image
