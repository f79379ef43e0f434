// An 8-bit image in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace p2::image {

// Pixels row by row, channels interleaved (H, W, C). channels: 1 (grey) or 3 (RGB).
struct Image {
  int width = 0;
  int height = 0;
  int channels = 0;
  std::vector<uint8_t> pixels;

  size_t row_bytes() const { return static_cast<size_t>(width) * channels; }
  friend bool operator==(const Image&, const Image&) = default;
};

}  // namespace p2::image
