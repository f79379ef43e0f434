#include "common/image/resample_taps.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace p2::image {
namespace {

double Box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

double Bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

}  // namespace

ResampleTaps MakeResampleTaps(int in_size, int out_size, Filter filter) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double filter_scale = std::max(scale, 1.0);
  const double support = (filter == Filter::kBox ? 0.5 : 2.0) * filter_scale;
  const double inverse_scale = 1.0 / filter_scale;
  ResampleTaps taps;
  taps.stride = static_cast<int>(std::ceil(support)) * 2 + 1;
  taps.firsts.resize(out_size);
  taps.counts.resize(out_size);
  taps.weights.resize(static_cast<size_t>(out_size) * taps.stride);
  for (int i = 0; i < out_size; ++i) {
    const double center = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int count = std::min(static_cast<int>(center + support + 0.5), in_size) - first;
    double* const row = &taps.weights[static_cast<size_t>(i) * taps.stride];
    double sum = 0.0;
    for (int j = 0; j < count; ++j) {
      const double x = (j + first - center + 0.5) * inverse_scale;
      row[j] = filter == Filter::kBox ? Box(x) : Bicubic(x);
      sum += row[j];
    }
    if (sum != 0.0) std::for_each(row, row + count, [sum](double& weight) { weight /= sum; });
    taps.firsts[i] = first;
    taps.counts[i] = count;
  }
  return taps;
}

bool VerticalPassFirst(int in_width, int in_height, int out_width, int out_height) {
  const int64_t fewer_columns = int64_t{in_width} - out_width, fewer_rows = int64_t{in_height} - out_height;
  return fewer_rows > 0 && fewer_rows > 2 * fewer_columns;
}

}  // namespace p2::image
