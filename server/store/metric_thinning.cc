#include "server/store/metric_thinning.h"

#include <algorithm>

namespace p2::store {

void MetricThinner::Run::Merge(const Run& later) {
  last = later.last;
  rows += later.rows;
  cells.resize(std::max(cells.size(), later.cells.size()));
  for (size_t i = 0; i < later.cells.size(); ++i) cells[i].Add(later.cells[i]);
}

void MetricThinner::Add(const MetricRow& row) {
  Run added;
  added.rows = 1;
  for (const auto& [name, value] : row.values) {
    if (!wanted_.empty() && wanted_.count(name) == 0) continue;
    const size_t index = names_.emplace(name, names_.size()).first->second;
    if (added.cells.size() <= index) added.cells.resize(index + 1);
    added.cells[index] = value;
  }
  if (added.cells.empty()) return;
  added.last = {.attempt = row.attempt,
                .sequence = row.sequence,
                .images_seen = row.images_seen,
                .step = row.step,
                .time = row.time,
                .superseded = row.superseded};
  if (!runs_.empty() && runs_.back().rows < rows_per_run_) return runs_.back().Merge(added);
  runs_.push_back(std::move(added));
  if (runs_.size() * (names_.size() + 2) <= max_cells_ || runs_.size() < 2) return;
  rows_per_run_ *= 2;
  for (size_t i = 0; i < runs_.size(); ++i) {
    if (i % 2 == 1) {
      runs_[i / 2].Merge(runs_[i]);
    } else if (i > 0) {
      runs_[i / 2] = std::move(runs_[i]);
    }
  }
  runs_.resize((runs_.size() + 1) / 2);
}

MetricThinner::Series MetricThinner::Thin(size_t max_points) const {
  const size_t groups = max_points == 0 ? runs_.size() : std::min(max_points, runs_.size());
  Series series;
  for (size_t group = 0; group < groups; ++group) {
    const size_t begin = group * runs_.size() / groups, end = (group + 1) * runs_.size() / groups;
    Run whole = runs_[begin];
    for (size_t i = begin + 1; i < end; ++i) whole.Merge(runs_[i]);
    for (const auto& [name, index] : names_) {
      if (index >= whole.cells.size() || whole.cells[index].count == 0) continue;
      const MetricSummary& cell = whole.cells[index];
      series[name].push_back({.images_seen = whole.last.images_seen,
                              .step = whole.last.step,
                              .time = whole.last.time,
                              .value = cell.mean(),
                              .count = cell.count,
                              .min = cell.min,
                              .max = cell.max,
                              .attempt = whole.last.attempt,
                              .superseded = whole.last.superseded});
    }
  }
  return series;
}

}  // namespace p2::store
