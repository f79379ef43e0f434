#include "client/p2ctl/chart.h"

#include <cairo/cairo.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace p2::ctl {
namespace {

constexpr int kTextRows = 16;
constexpr int kLabelColumns = 10;
constexpr double kDecadesShown = 12;  // Of a logarithmic axis, below its maximum.

// Where values lie between the ends of an axis.
class Axis {
 public:
  Axis(const Chart& chart, bool x) : log_(x ? chart.log_x : chart.log_y) {
    for (const ChartSeries& series : chart.series) {
      for (const auto& point : series.points) {
        const double value = x ? point.first : point.second;
        if (!std::isfinite(value) || (log_ && value <= 0)) continue;
        low_ = std::min(low_, value);
        high_ = std::max(high_, value);
      }
    }
    if (low_ > high_) low_ = high_ = 1;
    if (log_) low_ = std::max(low_, high_ * std::pow(10, -kDecadesShown));
    if (!log_ && low_ > 0 && low_ < high_ / 2) low_ = 0;
    if (low_ == high_) high_ = low_ == 0 ? 1 : low_ * 1.1;
  }

  // 0 to 1; nothing for what is not drawn.
  std::optional<double> At(double value) const {
    if (!std::isfinite(value) || (log_ && value <= 0)) return std::nullopt;
    const double at = log_ ? std::log(value / low_) / std::log(high_ / low_) : (value - low_) / (high_ - low_);
    if (at < -1e-9 || at > 1 + 1e-9) return std::nullopt;
    return std::clamp(at, 0.0, 1.0);
  }

  std::vector<double> Ticks() const {
    std::vector<double> ticks;
    if (log_) {
      const int first = static_cast<int>(std::ceil(std::log10(low_) - 1e-9));
      const int last = static_cast<int>(std::floor(std::log10(high_) + 1e-9));
      const int step = std::max(1, (last - first + 5) / 6);
      for (int exponent = first; exponent <= last; exponent += step) ticks.push_back(std::pow(10, exponent));
      if (ticks.size() >= 2) return ticks;
      return {low_, high_};
    }
    const double rough = (high_ - low_) / 5;
    const double power = std::pow(10, std::floor(std::log10(rough)));
    const double step = power * (rough / power > 5 ? 10 : rough / power > 2 ? 5 : rough / power > 1 ? 2 : 1);
    for (double tick = std::ceil(low_ / step) * step; tick <= high_ + step * 1e-9; tick += step)
      ticks.push_back(std::abs(tick) < step * 1e-9 ? 0 : tick);
    return ticks;
  }

  double low() const { return low_; }
  double high() const { return high_; }

 private:
  const bool log_;
  double low_ = std::numeric_limits<double>::infinity(), high_ = -std::numeric_limits<double>::infinity();
};

std::string Number(double value) { return absl::StrFormat("%.3g", value); }

// Dots of 2 x 4 a character, each with the series that drew it last.
class DotGrid {
 public:
  DotGrid(int columns, int rows)
      : columns_(columns), rows_(rows), bits_(static_cast<size_t>(columns * rows)), owner_(bits_.size(), -1) {}

  void Line(double x0, double y0, double x1, double y1, int series) {
    const int steps = std::max(
        1, static_cast<int>(std::ceil(std::max(std::abs(x1 - x0) * columns_ * 2, std::abs(y1 - y0) * rows_ * 4))));
    for (int i = 0; i <= steps; ++i) {
      const double part = static_cast<double>(i) / steps;
      Dot(x0 + part * (x1 - x0), y0 + part * (y1 - y0), series);
    }
  }

  // U+2800 + bits, in UTF-8; a blank where nothing is.
  std::string Text(int column, int row) const {
    const int bits = bits_[static_cast<size_t>(row * columns_ + column)];
    if (bits == 0) return " ";
    return {static_cast<char>(0xE2), static_cast<char>(0xA0 | (bits >> 6)), static_cast<char>(0x80 | (bits & 0x3F))};
  }
  int Owner(int column, int row) const { return owner_[static_cast<size_t>(row * columns_ + column)]; }

 private:
  void Dot(double x, double y, int series) {
    static constexpr int kBits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    const int dot_x = std::clamp(static_cast<int>(std::lround(x * (columns_ * 2 - 1))), 0, columns_ * 2 - 1);
    const int dot_y = std::clamp(static_cast<int>(std::lround((1 - y) * (rows_ * 4 - 1))), 0, rows_ * 4 - 1);
    const auto cell = static_cast<size_t>(dot_y / 4 * columns_ + dot_x / 2);
    bits_[cell] |= kBits[dot_y % 4][dot_x % 2];
    owner_[cell] = series;
  }

  const int columns_, rows_;
  std::vector<int> bits_;
  std::vector<int> owner_;
};

// ANSI colours, and the same as RGB for a white page.
constexpr std::array<int, 6> kAnsi = {34, 31, 32, 35, 36, 33};
constexpr std::array<std::array<double, 3>, 6> kRgb = {{{0.12, 0.35, 0.75},
                                                        {0.80, 0.20, 0.15},
                                                        {0.15, 0.55, 0.25},
                                                        {0.55, 0.25, 0.65},
                                                        {0.05, 0.55, 0.60},
                                                        {0.75, 0.50, 0.05}}};

std::string Colored(const std::string& text, int series, bool color) {
  if (!color || series < 0) return text;
  return absl::StrFormat("\033[%dm%s\033[0m", kAnsi[static_cast<size_t>(series) % kAnsi.size()], text);
}

template <typename F>
void ForEachSegment(const Chart& chart, const Axis& x, const Axis& y, F&& draw) {
  for (size_t i = 0; i < chart.series.size(); ++i) {
    bool connected = false;
    std::pair<double, double> last;
    for (const auto& [px, py] : chart.series[i].points) {
      const auto at_x = x.At(px), at_y = y.At(py);
      if (!at_x || !at_y) {
        connected = false;
        continue;
      }
      const std::pair now(*at_x, *at_y);
      draw(connected ? last : now, now, static_cast<int>(i));
      last = now;
      connected = true;
    }
  }
}

struct Area {
  double left, top, width, height;
};

void DrawText(cairo_t* cr, const std::string& text, double x, double y, double align) {
  cairo_text_extents_t extents;
  cairo_text_extents(cr, text.c_str(), &extents);
  cairo_move_to(cr, x - align * extents.x_advance, y);
  cairo_show_text(cr, text.c_str());
}

void DrawChart(cairo_t* cr, const Chart& chart, const Area& area) {
  const Axis x(chart, true), y(chart, false);
  const auto at = [&](double part_x, double part_y) {
    return std::pair(area.left + part_x * area.width, area.top + (1 - part_y) * area.height);
  };
  cairo_set_font_size(cr, 13);
  cairo_set_line_width(cr, 1);
  for (const double tick : x.Ticks()) {
    if (!x.At(tick)) continue;
    const auto [px, py] = at(*x.At(tick), 0);
    cairo_set_source_rgb(cr, 0.9, 0.9, 0.9);
    cairo_move_to(cr, px, py);
    cairo_line_to(cr, px, area.top);
    cairo_stroke(cr);
    cairo_set_source_rgb(cr, 0.25, 0.25, 0.25);
    DrawText(cr, Number(tick), px, py + 18, 0.5);
  }
  for (const double tick : y.Ticks()) {
    if (!y.At(tick)) continue;
    const auto [px, py] = at(0, *y.At(tick));
    cairo_set_source_rgb(cr, 0.9, 0.9, 0.9);
    cairo_move_to(cr, px, py);
    cairo_line_to(cr, px + area.width, py);
    cairo_stroke(cr);
    cairo_set_source_rgb(cr, 0.25, 0.25, 0.25);
    DrawText(cr, Number(tick), px - 8, py + 4, 1);
  }
  DrawText(cr, chart.x_label, area.left + area.width / 2, area.top + area.height + 38, 0.5);
  DrawText(cr, chart.y_label, area.left, area.top - 10, 0);
  cairo_set_font_size(cr, 15);
  DrawText(cr, chart.title, area.left + area.width / 2, area.top - 26, 0.5);
  cairo_set_line_width(cr, 2);
  ForEachSegment(chart, x, y, [&](std::pair<double, double> from, std::pair<double, double> to, int series) {
    const auto& rgb = kRgb[static_cast<size_t>(series) % kRgb.size()];
    cairo_set_source_rgb(cr, rgb[0], rgb[1], rgb[2]);
    const auto [x0, y0] = at(from.first, from.second);
    const auto [x1, y1] = at(to.first, to.second);
    cairo_move_to(cr, x0, y0);
    cairo_line_to(cr, x1, y1);
    cairo_stroke(cr);
  });
  cairo_set_font_size(cr, 13);
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const auto& rgb = kRgb[i % kRgb.size()];
    const double py = area.top + 8 + 20.0 * static_cast<double>(i), px = area.left + area.width + 14;
    cairo_set_source_rgb(cr, rgb[0], rgb[1], rgb[2]);
    cairo_move_to(cr, px, py);
    cairo_line_to(cr, px + 22, py);
    cairo_stroke(cr);
    cairo_set_source_rgb(cr, 0.1, 0.1, 0.1);
    DrawText(cr, chart.series[i].name, px + 28, py + 4, 0);
  }
}

}  // namespace

std::string RenderChart(const Chart& chart, int width, bool color) {
  const Axis x(chart, true), y(chart, false);
  const int columns = std::max(width, 40) - kLabelColumns - 2;
  DotGrid grid(columns, kTextRows);
  ForEachSegment(chart, x, y, [&](std::pair<double, double> from, std::pair<double, double> to, int series) {
    grid.Line(from.first, from.second, to.first, to.second, series);
  });
  std::string text = absl::StrCat(chart.title, "\n", chart.y_label, "\n");
  for (int row = 0; row < kTextRows; ++row) {
    const std::string label = row == 0 ? Number(y.high()) : row == kTextRows - 1 ? Number(y.low()) : "";
    absl::StrAppend(&text, absl::StrFormat("%*s ", kLabelColumns, label), "│");
    for (int column = 0; column < columns; ++column)
      absl::StrAppend(&text, Colored(grid.Text(column, row), grid.Owner(column, row), color));
    absl::StrAppend(&text, "\n");
  }
  absl::StrAppend(&text, std::string(kLabelColumns + 1, ' '), "└");
  for (int column = 0; column < columns; ++column) absl::StrAppend(&text, "─");
  const std::string low = Number(x.low()), high = Number(x.high());
  const int blank = columns - static_cast<int>(low.size() + high.size() + chart.x_label.size());
  absl::StrAppend(&text, "\n", std::string(kLabelColumns + 2, ' '), low, std::string(std::max(1, blank / 2), ' '),
                  chart.x_label, std::string(std::max(1, blank - blank / 2), ' '), high, "\n");
  for (size_t i = 0; i < chart.series.size(); ++i) {
    absl::StrAppend(&text, std::string(kLabelColumns + 2, ' '), Colored("━━", static_cast<int>(i), color), " ",
                    chart.series[i].name, "\n");
  }
  return text;
}

absl::Status WriteChartsPng(absl::Span<const Chart> charts, const std::string& path) {
  constexpr int kWidth = 900, kHeight = 420;
  const std::unique_ptr<cairo_surface_t, decltype(&cairo_surface_destroy)> surface(
      cairo_image_surface_create(CAIRO_FORMAT_RGB24, kWidth, kHeight * static_cast<int>(charts.size())),
      &cairo_surface_destroy);
  const std::unique_ptr<cairo_t, decltype(&cairo_destroy)> cr(cairo_create(surface.get()), &cairo_destroy);
  cairo_set_source_rgb(cr.get(), 1, 1, 1);
  cairo_paint(cr.get());
  cairo_select_font_face(cr.get(), "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
  for (size_t i = 0; i < charts.size(); ++i)
    DrawChart(cr.get(), charts[i], {80, static_cast<double>(i) * kHeight + 52, kWidth - 80 - 190, kHeight - 52 - 56});
  const cairo_status_t written = cairo_surface_write_to_png(surface.get(), path.c_str());
  if (written == CAIRO_STATUS_SUCCESS) return absl::OkStatus();
  const int error = errno;
  return absl::ErrnoToStatus(error == 0 ? EIO : error,
                             absl::StrCat("cannot write ", path, " (", cairo_status_to_string(written), ")"));
}

}  // namespace p2::ctl
