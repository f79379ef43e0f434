#include "common/image/pillow_resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/image/codec.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;  // 8 for the pixel, 2 against overflow by bicubic's overshoot.

// ResampleTaps in fixed point.
struct Taps {
  int stride = 0;
  std::vector<int> firsts;
  std::vector<int> counts;
  std::vector<int32_t> weights;
};

Taps MakeTaps(int in_size, int out_size, Filter filter) {
  ResampleTaps exact = MakeResampleTaps(in_size, out_size, filter);
  Taps taps{exact.stride, std::move(exact.firsts), std::move(exact.counts), {}};
  taps.weights.reserve(exact.weights.size());
  for (const double share : exact.weights) {
    const double weight = share * (1 << kPrecisionBits);
    taps.weights.push_back(static_cast<int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5));
  }
  return taps;
}

uint8_t Round(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, 0, 255)); }

constexpr int32_t kHalf = 1 << (kPrecisionBits - 1);

template <int kChannels>
Image ResizeRowsOf(const Image& image, int width, Filter filter) {
  const Taps taps = MakeTaps(image.width, width, filter);
  Image out{width, image.height, kChannels};
  out.pixels.resize(out.row_bytes() * out.height);
  uint8_t* to = out.pixels.data();
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* row = image.pixels.data() + image.row_bytes() * y;
    for (int x = 0; x < width; ++x) {
      const int32_t* weights = &taps.weights[static_cast<size_t>(x) * taps.stride];
      const uint8_t* from = row + static_cast<size_t>(taps.firsts[x]) * kChannels;
      int32_t sums[kChannels];
      std::fill_n(sums, kChannels, kHalf);
      for (int j = 0; j < taps.counts[x]; ++j) {
        for (int c = 0; c < kChannels; ++c) sums[c] += from[j * kChannels + c] * weights[j];
      }
      for (int c = 0; c < kChannels; ++c) *to++ = Round(sums[c]);
    }
  }
  return out;
}

Image ResizeRows(const Image& image, int width, Filter filter) {
  return image.channels == 1 ? ResizeRowsOf<1>(image, width, filter) : ResizeRowsOf<3>(image, width, filter);
}

Image ResizeColumns(const Image& image, int height, Filter filter) {
  const Taps taps = MakeTaps(image.height, height, filter);
  Image out{image.width, height, image.channels};
  const size_t row_bytes = out.row_bytes();
  out.pixels.resize(row_bytes * height);
  std::vector<int32_t> sums(row_bytes);
  for (int y = 0; y < height; ++y) {
    std::fill(sums.begin(), sums.end(), kHalf);
    for (int j = 0; j < taps.counts[y]; ++j) {
      const int32_t weight = taps.weights[static_cast<size_t>(y) * taps.stride + j];
      const uint8_t* from = image.pixels.data() + row_bytes * (taps.firsts[y] + j);
      for (size_t x = 0; x < row_bytes; ++x) sums[x] += from[x] * weight;
    }
    std::transform(sums.begin(), sums.end(), out.pixels.data() + row_bytes * y, Round);
  }
  return out;
}

absl::Status CheckImage(const Image& image) {
  P2_RETURN_IF_ERROR(CheckSize(std::max(image.width, 0), std::max(image.height, 0), kMostPixels));
  if ((image.channels != 1 && image.channels != 3) || image.pixels.size() != image.row_bytes() * image.height) {
    return absl::InvalidArgumentError(absl::StrCat("an image of ", image.width, " x ", image.height, " and ",
                                                   image.channels, " channels cannot hold ", image.pixels.size(),
                                                   " bytes"));
  }
  return absl::OkStatus();
}

// Python's round() of a product: halves to even, whatever the rounding mode.
double RoundHalfEven(double x) {
  const double down = std::floor(x);
  const double rest = x - down;
  if (rest != 0.5) return rest < 0.5 ? down : down + 1;
  return std::fmod(down, 2.0) == 0.0 ? down : down + 1;
}

}  // namespace

absl::StatusOr<Image> PillowResize(const Image& image, int width, int height, Filter filter) {
  P2_RETURN_IF_ERROR(CheckImage(image));
  P2_RETURN_IF_ERROR(CheckSize(std::max(width, 0), std::max(height, 0), kMostPixels));
  if (width == image.width && height == image.height) return image;
  if (width == image.width) return ResizeColumns(image, height, filter);
  if (height == image.height) return ResizeRows(image, width, filter);
  if (VerticalPassFirst(image.width, image.height, width, height))
    return ResizeRows(ResizeColumns(image, height, filter), width, filter);
  P2_RETURN_IF_ERROR(CheckSize(width, image.height, kMostPixels));
  return ResizeColumns(ResizeRows(image, width, filter), height, filter);
}

absl::StatusOr<Image> CenterCropAdm(const Image& image, int resolution) {
  P2_RETURN_IF_ERROR(CheckImage(image));
  if (resolution < 1) return absl::InvalidArgumentError(absl::StrCat("resolution is ", resolution, "; it starts at 1"));
  Image reduced;
  const Image* current = &image;
  while (std::min(current->width, current->height) >= 2 * int64_t{resolution}) {
    P2_ASSIGN_OR_RETURN(reduced, PillowResize(*current, current->width / 2, current->height / 2, Filter::kBox));
    current = &reduced;
  }
  const double scale = static_cast<double>(resolution) / std::min(current->width, current->height);
  const double width = RoundHalfEven(current->width * scale), height = RoundHalfEven(current->height * scale);
  P2_RETURN_IF_ERROR(CheckSize(static_cast<uint64_t>(width), static_cast<uint64_t>(height), kMaxPixels));
  P2_ASSIGN_OR_RETURN(const Image resized,
                      PillowResize(*current, static_cast<int>(width), static_cast<int>(height), Filter::kBicubic));
  Image crop{resolution, resolution, image.channels};
  crop.pixels.resize(crop.row_bytes() * resolution);
  const size_t left = static_cast<size_t>(resized.width - resolution) / 2;
  const size_t top = static_cast<size_t>(resized.height - resolution) / 2;
  for (int y = 0; y < resolution; ++y) {
    std::memcpy(crop.pixels.data() + crop.row_bytes() * y,
                resized.pixels.data() + resized.row_bytes() * (top + y) + left * crop.channels, crop.row_bytes());
  }
  return crop;
}

}  // namespace p2::image
