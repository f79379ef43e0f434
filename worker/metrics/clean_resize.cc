#include "worker/metrics/clean_resize.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "common/image/decode.h"

namespace p2::metrics {
namespace {

double Bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

struct Plane {
  int width = 0;
  int height = 0;
  std::vector<float> pixels;
};

// One output's weights, and the first input that they belong to.
struct Taps {
  int first = 0;
  std::vector<double> weights;
};

std::vector<Taps> MakeTaps(int in_size, int out_size) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double filter_scale = std::max(scale, 1.0), support = 2.0 * filter_scale, inverse_scale = 1.0 / filter_scale;
  std::vector<Taps> taps(static_cast<size_t>(out_size));
  for (int i = 0; i < out_size; ++i) {
    Taps& out = taps[static_cast<size_t>(i)];
    const double center = (i + 0.5) * scale;
    out.first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int end = std::min(static_cast<int>(center + support + 0.5), in_size);
    double sum = 0.0;
    for (int j = out.first; j < end; ++j) {
      out.weights.push_back(Bicubic((j - center + 0.5) * inverse_scale));
      sum += out.weights.back();
    }
    for (double& weight : out.weights) weight /= sum;
  }
  return taps;
}

Plane ResizeRows(const Plane& in, int width) {
  if (in.width == width) return in;
  const std::vector<Taps> taps = MakeTaps(in.width, width);
  Plane out{width, in.height, {}};
  out.pixels.reserve(static_cast<size_t>(width) * static_cast<size_t>(in.height));
  for (int y = 0; y < in.height; ++y) {
    const float* row = in.pixels.data() + static_cast<size_t>(y) * static_cast<size_t>(in.width);
    for (const Taps& tap : taps) {
      double sum = 0.0;
      for (size_t j = 0; j < tap.weights.size(); ++j) sum += row[static_cast<size_t>(tap.first) + j] * tap.weights[j];
      out.pixels.push_back(static_cast<float>(sum));
    }
  }
  return out;
}

Plane ResizeColumns(const Plane& in, int height) {
  if (in.height == height) return in;
  const std::vector<Taps> taps = MakeTaps(in.height, height);
  const size_t width = static_cast<size_t>(in.width);
  Plane out{in.width, height, {}};
  out.pixels.reserve(width * static_cast<size_t>(height));
  std::vector<double> sums(width);
  for (const Taps& tap : taps) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (size_t j = 0; j < tap.weights.size(); ++j) {
      const float* row = in.pixels.data() + (static_cast<size_t>(tap.first) + j) * width;
      for (size_t x = 0; x < width; ++x) sums[x] += row[x] * tap.weights[j];
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
  const int64_t fewer_columns = int64_t{image.width} - size, fewer_rows = int64_t{image.height} - size;
  const bool columns_first = fewer_rows > 0 && fewer_rows > 2 * fewer_columns && fewer_columns != 0;
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
