// Fewer points of a job's series, for a plot or for an answer of bounded size, without losing a spike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "server/store/job_store.h"

namespace p2::store {

// One point, or what stands for several: then `value` is their mean, and position, step, time and attempt are those of
// the last row of the run.
struct SeriesPoint {
  int64_t images_seen = 0, step = 0;
  absl::Time time = absl::InfinitePast();
  double value = 0;
  int64_t count = 1;
  double min = 0, max = 0;
  int attempt = 0;
  bool superseded = false;
};

// Cuts rows into runs of equal length, as far as the numbers allow. The runs are of rows, not of one series' points:
// points of several series stand at the same positions and line up. Thread-compatible.
class MetricThinner {
 public:
  using Series = std::map<std::string, std::vector<SeriesPoint>>;

  // About this many values are held: 20 MB. When more come, every two runs become one.
  static constexpr size_t kMaxCells = 200'000;

  // `wanted`: names of series; empty: all.
  explicit MetricThinner(std::set<std::string> wanted, size_t max_cells = kMaxCells)
      : wanted_(std::move(wanted)), max_cells_(max_cells) {}

  // In order. A row without a wanted value does not count.
  void Add(const MetricRow& row);

  // Runs that can be told apart; at most as many as rows were added.
  size_t runs() const { return runs_.size(); }
  // At most `max_points` (0: runs()) points of each series; a run without a value of a series has no point in it.
  Series Thin(size_t max_points) const;

 private:
  struct Run {
    MetricRow last;  // Without its values.
    size_t rows = 0;
    std::vector<MetricSummary> cells;  // By index in names_; short where the last ones are missing.
    void Merge(const Run& later);
  };

  const std::set<std::string> wanted_;
  const size_t max_cells_;
  std::map<std::string, size_t> names_;
  std::vector<Run> runs_;
  size_t rows_per_run_ = 1;
};

}  // namespace p2::store
