#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace p2::loadgen {

// Nearest rank: the least value that at least `fraction` of them do not exceed; 0 of none. REQUIRES: sorted,
// 0 < fraction <= 1.
inline double Quantile(const std::vector<double>& sorted, double fraction) {
  if (sorted.empty()) return 0;
  const double rank = std::ceil(fraction * static_cast<double>(sorted.size()));
  return sorted[static_cast<size_t>(std::max(1.0, rank)) - 1];
}

}  // namespace p2::loadgen
