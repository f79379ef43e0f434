#include "server/store/metric_thinning.h"

#include <algorithm>
#include <cstddef>

namespace p2::store {

std::vector<SeriesPoint> Thin(std::vector<SeriesPoint> points, int max_points) {
  if (max_points <= 0 || points.size() <= static_cast<size_t>(max_points)) return points;
  std::vector<SeriesPoint> thinned;
  thinned.reserve(static_cast<size_t>(max_points));
  const auto runs = static_cast<size_t>(max_points);
  for (size_t run = 0; run < runs; ++run) {
    const size_t begin = run * points.size() / runs;
    const size_t end = (run + 1) * points.size() / runs;
    SeriesPoint out = points[end - 1];
    double sum = 0;
    for (size_t i = begin; i < end; ++i) {
      sum += points[i].value;
      out.min = std::min(out.min, points[i].min);
      out.max = std::max(out.max, points[i].max);
    }
    out.count = static_cast<int>(end - begin);
    out.value = sum / out.count;
    thinned.push_back(out);
  }
  return thinned;
}

}  // namespace p2::store
