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

namespace p2::ctl {
namespace {

constexpr int kSparkWidth = 16;
constexpr int kMinBar = 8;
constexpr int kMaxBar = 30;

// Columns of UTF-8 text whose characters are all one column wide.
int Columns(absl::string_view text) {
  return static_cast<int>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

double Fraction(const ProgressState& state) {
  return state.total > 0 ? std::clamp(static_cast<double>(state.done) / static_cast<double>(state.total), 0.0, 1.0) : 0.0;
}

std::string Percent(const ProgressState& state) { return absl::StrFormat("%3.0f%%", std::floor(100 * Fraction(state))); }
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
  // In the order in which they stand; `rank`: what goes first when room is short (0 stays).
  struct Part {
    std::string text;
    int rank;
  };
  std::vector<Part> parts;
  parts.push_back({state.label, 1});
  parts.push_back({state.phase, 0});
  const size_t bar = parts.size();
  parts.push_back({std::string(kMinBar + 2, ' '), 4});
  parts.push_back({Percent(state), 0});
  parts.push_back({Count(state), 5});
  if (state.per_second > 0) parts.push_back({Rate(state), 3});
  if (!state.losses.empty()) {
    parts.push_back({absl::StrCat("loss ", FormatNumber(state.losses.back())), 6});
    parts.push_back({Sparkline(state.losses, kSparkWidth), 2});
  }
  parts.push_back({Eta(state), 0});

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
  if (!parts[bar].text.empty()) {
    const int room = std::min(kMaxBar, kMinBar + std::max(0, width - total()));
    parts[bar].text = absl::StrCat("[", Bar(Fraction(state), room), "]");
  }
  std::string line;
  for (const Part& part : parts) {
    if (!part.text.empty()) absl::StrAppend(&line, line.empty() ? "" : " ", part.text);
  }
  while (Columns(line) > width) line.pop_back();
  return line;
}

std::string RenderPlainProgress(const ProgressState& state) {
  std::string line = absl::StrCat(state.label, state.phase.empty() ? "" : " ", state.phase, " ", Percent(state), " ", Count(state));
  if (state.per_second > 0) absl::StrAppend(&line, " ", Rate(state));
  if (!state.losses.empty()) absl::StrAppend(&line, " loss ", FormatNumber(state.losses.back()));
  if (const std::string eta = Eta(state); !eta.empty()) absl::StrAppend(&line, " ", eta);
  return line;
}

ProgressLine::ProgressLine(int fd, absl::Duration plain_interval)
    : fd_(fd), terminal_(IsTerminal(fd)), plain_interval_(plain_interval) {}

void ProgressLine::Update(const ProgressState& state, absl::Time now, bool force) {
  if (terminal_) {
    Write(absl::StrCat("\r", RenderProgress(state, TerminalWidth(fd_) - 1), "\x1b[K"));
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
