#include "client/p2ctl/progress_line.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/p2ctl/terminal.h"
#include "client/p2ctl/units.h"
#include "client/p2ctl/wrap_text.h"

namespace p2::ctl {
namespace {

constexpr int kMinSpark = 8;
constexpr int kMaxSpark = 16;
constexpr int kMinBar = 8;
constexpr int kMaxBar = 30;
// Columns that stay free at the right edge: the terminal's own "^C" must not wrap, or Clear() would leave the line
// standing.
constexpr int kEdge = 3;

int Columns(absl::string_view text) { return static_cast<int>(TextColumns(text)); }

double Fraction(const ProgressState& state) {
  return state.total > 0 ? std::clamp(static_cast<double>(state.done) / static_cast<double>(state.total), 0.0, 1.0)
                         : 0.0;
}

std::string Percent(const ProgressState& state) {
  return absl::StrFormat("%3.0f%%", std::floor(100 * Fraction(state)));
}
// 999, "3.5k", "117k", "10M": rounded down, so that nothing looks done before it is.
std::string ShortCount(int64_t count) {
  if (count < 1000) return absl::StrCat(count);
  absl::string_view units = "kMG";
  int64_t tenths = count / 100;
  for (; tenths >= 10'000 && units.size() > 1; tenths /= 1000) units.remove_prefix(1);
  const bool whole = tenths % 10 == 0 || tenths >= 1000;
  return absl::StrCat(tenths / 10, whole ? "" : absl::StrCat(".", tenths % 10), units.substr(0, 1));
}
std::string ShortCounts(const ProgressState& state) {
  return absl::StrCat(ShortCount(state.done), "/", ShortCount(state.total));
}
std::string ShortRate(const ProgressState& state) {
  const double rate = state.per_second;
  return absl::StrCat(rate >= 10 ? ShortCount(std::llround(rate)) : FormatRate(rate), "/s");
}
std::string Count(const ProgressState& state) {
  return absl::StrCat(FormatCount(state.done), "/", FormatCount(state.total), " ", state.unit);
}
std::string Rate(const ProgressState& state) {
  return absl::StrCat(FormatRate(state.per_second), " ", state.unit, "/s");
}
std::string Eta(const ProgressState& state) {
  return state.eta.has_value() && state.done < state.total ? absl::StrCat("ETA ", FormatShortDuration(*state.eta)) : "";
}

}  // namespace

std::string Sparkline(const std::vector<double>& values, int width) {
  constexpr std::array<absl::string_view, 8> kBlocks = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const size_t shown = std::min(values.size(), static_cast<size_t>(std::max(width, 0)));
  const auto first = values.end() - static_cast<std::ptrdiff_t>(shown);
  double low = INFINITY, high = -INFINITY;
  for (auto at = first; at != values.end(); ++at) {
    if (!std::isfinite(*at)) continue;
    low = std::min(low, *at);
    high = std::max(high, *at);
  }
  const bool logarithmic = low > 0 && high > 10 * low;
  const auto scale = [logarithmic](double value) { return logarithmic ? std::log(value) : value; };
  std::string out;
  for (auto at = first; at != values.end(); ++at) {
    if (!std::isfinite(*at)) {
      out.push_back(' ');
      continue;
    }
    const double height = high > low ? (scale(*at) - scale(low)) / (scale(high) - scale(low)) : 0.5;
    absl::StrAppend(&out, kBlocks[static_cast<size_t>(std::lround(height * 7))]);
  }
  return out;
}

std::string Bar(double fraction, int width) {
  constexpr std::array<absl::string_view, 8> kEighths = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int eighths = static_cast<int>(std::lround(std::clamp(fraction, 0.0, 1.0) * width * 8));
  std::string out;
  for (int i = 0; i < eighths / 8; ++i) absl::StrAppend(&out, "█");
  absl::StrAppend(&out, kEighths[static_cast<size_t>(eighths % 8)]);
  out.append(static_cast<size_t>(width - Columns(out)), ' ');
  return out;
}

std::string RenderProgress(const ProgressState& state, int width) {
  // In the order in which they stand; each as short as it gets. `rank`: what goes first when room is short (0 stays).
  struct Part {
    std::string text;
    int rank = 0;
  };
  enum { kLabel, kPhase, kBar, kPercent, kCount, kRate, kLoss, kSpark, kEta, kParts };
  std::array<Part, kParts> parts;
  parts[kLabel] = {state.label, 1};
  parts[kPhase] = {state.phase};
  parts[kBar] = {std::string(kMinBar + 2, ' '), 4};
  parts[kPercent] = {Percent(state)};
  parts[kCount] = {ShortCounts(state), 5};
  if (state.per_second > 0) parts[kRate] = {ShortRate(state), 3};
  if (!state.losses.empty()) {
    parts[kLoss] = {absl::StrCat("loss ", FormatNumber(state.losses.back())), 6};
    parts[kSpark] = {Sparkline(state.losses, kMinSpark), 2};
  }
  parts[kEta] = {Eta(state)};

  const auto total = [&parts] {
    int columns = -1;
    for (const Part& part : parts) columns += part.text.empty() ? 0 : Columns(part.text) + 1;
    return std::max(columns, 0);
  };
  for (int rank = 1; rank <= 6 && total() > width; ++rank) {
    for (Part& part : parts) {
      if (part.rank == rank) part.text.clear();
    }
  }
  // What room is left makes them longer, the bar last.
  const auto widen = [&](size_t part, const std::string& text) {
    if (!parts[part].text.empty() && total() - Columns(parts[part].text) + Columns(text) <= width)
      parts[part].text = text;
  };
  widen(kSpark, Sparkline(state.losses, kMaxSpark));
  widen(kCount, Count(state));
  widen(kRate, Rate(state));
  if (!parts[kBar].text.empty()) {
    const int room = std::min(kMaxBar, kMinBar + std::max(0, width - total()));
    parts[kBar].text = absl::StrCat("[", Bar(Fraction(state), room), "]");
  }
  std::string line;
  for (const Part& part : parts) {
    if (!part.text.empty()) absl::StrAppend(&line, line.empty() ? "" : " ", part.text);
  }
  while (Columns(line) > width) line.pop_back();
  return line;
}

std::string RenderPlainProgress(const ProgressState& state) {
  std::string line =
      absl::StrCat(state.label, state.phase.empty() ? "" : " ", state.phase, " ", Percent(state), " ", Count(state));
  if (state.per_second > 0) absl::StrAppend(&line, " ", Rate(state));
  if (!state.losses.empty()) absl::StrAppend(&line, " loss ", FormatNumber(state.losses.back()));
  if (const std::string eta = Eta(state); !eta.empty()) absl::StrAppend(&line, " ", eta);
  return line;
}

ProgressLine::ProgressLine(int fd, absl::Duration plain_interval)
    : fd_(fd), terminal_(IsTerminal(fd)), plain_interval_(plain_interval) {}

void ProgressLine::Update(const ProgressState& state, absl::Time now, bool force) {
  if (terminal_) {
    Write(absl::StrCat("\r", RenderProgress(state, TerminalWidth(fd_) - kEdge), "\x1b[K"));
    drawn_ = true;
  } else if (force || now - last_plain_ >= plain_interval_) {
    Write(absl::StrCat(RenderPlainProgress(state), "\n"));
    last_plain_ = now;
  }
}

void ProgressLine::Clear() {
  if (drawn_) Write("\r\x1b[K");
  drawn_ = false;
}

void ProgressLine::Write(absl::string_view text) const {
  while (!text.empty()) {
    const ssize_t written = write(fd_, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;  // Nobody reads it any more; the work goes on.
    text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace p2::ctl
