// Line charts: braille dots in a terminal, PNG files (cairo).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace p2::ctl {

struct ChartSeries {
  std::string name;
  std::vector<std::pair<double, double>> points;  // (x, y), by rising x.
};

struct Chart {
  std::string title, x_label, y_label;
  bool log_x = false, log_y = false;  // Points that are not positive there are left out.
  std::vector<ChartSeries> series;
};

// `width` columns (at least 40) and 16 rows of dots, axes with their ends and a legend; a series keeps its colour in
// all of the legend. Ends in a newline.
std::string RenderChart(const Chart& chart, int width, bool color);

// One below the other, 900 pixels wide. The errno's code with the path if it cannot be written.
absl::Status WriteChartsPng(absl::Span<const Chart> charts, const std::string& path);

}  // namespace p2::ctl
