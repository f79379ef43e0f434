// What is kept of one or several values of a metric when points are thinned.
#pragma once

#include <cmath>
#include <cstdint>

namespace p2::store {

// `min` and `max` leave NaN out while there is another value, whatever the order in which values come: a point of
// points says what a point of all the values would. The mean of values of which one is NaN is NaN.
struct MetricSummary {
  double sum = 0;
  double min = 0, max = 0;
  int64_t count = 0;  // 0: nothing was added yet.

  static MetricSummary Of(double value) { return {.sum = value, .min = value, .max = value, .count = 1}; }

  double mean() const { return sum / static_cast<double>(count); }

  void Add(const MetricSummary& other) {
    if (other.count == 0) return;
    min = count == 0 ? other.min : std::fmin(min, other.min);
    max = count == 0 ? other.max : std::fmax(max, other.max);
    sum += other.sum;
    count += other.count;
  }
  bool operator==(const MetricSummary&) const = default;
};

}  // namespace p2::store
