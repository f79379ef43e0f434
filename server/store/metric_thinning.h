// Fewer points of a series for a plot, without losing a spike.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace p2::store {

// One point, or what stands for several: then `value` is their mean, and position, step, time and attempt are the
// last's.
struct SeriesPoint {
  int64_t images_seen = 0, step = 0;
  absl::Time time = absl::InfinitePast();
  double value = 0;
  int count = 1;
  double min = 0, max = 0;
  int attempt = 0;
  bool superseded = false;
};

// At most `max_points` (0: all) points of `points`, in order: runs of equal length as far as the numbers allow, each
// becoming one point. REQUIRES: count == 1 and min == max == value in each.
std::vector<SeriesPoint> Thin(std::vector<SeriesPoint> points, int max_points);

}  // namespace p2::store
