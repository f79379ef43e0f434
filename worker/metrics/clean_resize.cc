#include "worker/metrics/clean_resize.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/image/decode.h"
#include "common/image/resample_taps.h"

namespace p2::metrics {
namespace {

struct Plane {
  int width = 0;
  int height = 0;
  std::vector<float> pixels;
};

Plane ResizeRows(const Plane& in, int width) {
  if (in.width == width) return in;
  const image::ResampleTaps taps = image::MakeResampleTaps(in.width, width, image::Filter::kBicubic);
  Plane out{width, in.height, {}};
  out.pixels.reserve(static_cast<size_t>(width) * static_cast<size_t>(in.height));
  for (int y = 0; y < in.height; ++y) {
    const float* row = in.pixels.data() + static_cast<size_t>(y) * static_cast<size_t>(in.width);
    for (int x = 0; x < width; ++x) {
      const double* weights = &taps.weights[static_cast<size_t>(x) * static_cast<size_t>(taps.stride)];
      double sum = 0.0;
      for (int j = 0; j < taps.counts[x]; ++j) sum += row[taps.firsts[x] + j] * weights[j];
      out.pixels.push_back(static_cast<float>(sum));
    }
  }
  return out;
}

Plane ResizeColumns(const Plane& in, int height) {
  if (in.height == height) return in;
  const image::ResampleTaps taps = image::MakeResampleTaps(in.height, height, image::Filter::kBicubic);
  const size_t width = static_cast<size_t>(in.width);
  Plane out{in.width, height, {}};
  out.pixels.reserve(width * static_cast<size_t>(height));
  std::vector<double> sums(width);
  for (int y = 0; y < height; ++y) {
    const double* weights = &taps.weights[static_cast<size_t>(y) * static_cast<size_t>(taps.stride)];
    std::fill(sums.begin(), sums.end(), 0.0);
    for (int j = 0; j < taps.counts[y]; ++j) {
      const float* row = in.pixels.data() + static_cast<size_t>(taps.firsts[y] + j) * width;
      for (size_t x = 0; x < width; ++x) sums[x] += row[x] * weights[j];
    }
    for (const double sum : sums) out.pixels.push_back(static_cast<float>(sum));
  }
  return out;
}

}  // namespace

absl::StatusOr<std::vector<float>> CleanResize(const image::Image& image, int size) {
  const int64_t pixels = int64_t{std::max(image.width, 0)} * std::max(image.height, 0);
  if (pixels < 1 || pixels > image::kMaxPixels || image.channels < 1 ||
      image.pixels.size() != static_cast<size_t>(pixels) * static_cast<size_t>(image.channels)) {
    return absl::InvalidArgumentError(absl::StrCat("an image of ", image.width, " x ", image.height, " and ",
                                                   image.channels, " channels cannot be resized"));
  }
  // The pass between is size x height or width x size.
  if (size < 1 || int64_t{size} * std::max({size, image.width, image.height}) > image::kMaxPixels)
    return absl::InvalidArgumentError(absl::StrCat("cannot resize ", image.width, " x ", image.height, " to ", size));
  const bool columns_first = image::VerticalPassFirst(image.width, image.height, size, size);
  const size_t channels = static_cast<size_t>(image.channels);
  std::vector<float> result;
  result.reserve(channels * static_cast<size_t>(size) * static_cast<size_t>(size));
  for (size_t c = 0; c < channels; ++c) {
    Plane plane{image.width, image.height, {}};
    plane.pixels.reserve(static_cast<size_t>(pixels));
    for (size_t i = c; i < image.pixels.size(); i += channels) plane.pixels.push_back(image.pixels[i]);
    plane = columns_first ? ResizeRows(ResizeColumns(plane, size), size) : ResizeColumns(ResizeRows(plane, size), size);
    for (const float value : plane.pixels) result.push_back(std::clamp(value, 0.0f, 255.0f));
  }
  return result;
}

}  // namespace p2::metrics
