// The live line of a training job or of a long piece of work.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace p2::ctl {

struct ProgressState {
  std::string label;  // Job ID.
  std::string phase;  // "RUNNING"; "RUNNING save".
  int64_t done = 0;
  int64_t total = 0;
  std::string unit = "images";
  double per_second = 0;
  std::vector<double> losses;  // Oldest first; the sparkline and the last value. May be empty.
  std::optional<absl::Duration> eta;
};

// `values` as block characters, one column each, at most `width` of the newest; the range of those shown is stretched
// over the eight heights, by logarithms where all are positive and span more than a factor of ten. A value that is not
// finite is a space.
std::string Sparkline(const std::vector<double>& values, int width);

// A bar of exactly `width` columns, in eighths. `fraction` is clamped to [0, 1].
std::string Bar(double fraction, int width);

// One line of at most `width` columns, without a newline. Where room is short its parts are first written shorter (bar
// and sparkline 8 columns wide, 3.5k/20k, 218/s), then left out, the least telling first: label, sparkline, rate, bar,
// count, loss; phase, percentage and ETA stay. Whatever is left lengthens sparkline, counts and rate, and last the bar.
std::string RenderProgress(const ProgressState& state, int width);

// The same for a log: everything, no bar.
std::string RenderPlainProgress(const ProgressState& state);

// Writes the line on `fd`: redrawn in place on a terminal, as a plain line at most every `plain_interval` elsewhere.
// Confined to one thread.
class ProgressLine {
 public:
  explicit ProgressLine(int fd, absl::Duration plain_interval = absl::Seconds(30));
  ~ProgressLine() { Clear(); }

  // `force`: a plain line even before its time (the state changed).
  void Update(const ProgressState& state, absl::Time now, bool force = false);
  // Takes the line off the terminal, so that other text may be written.
  void Clear();

 private:
  void Write(absl::string_view text) const;

  const int fd_;
  const bool terminal_;
  const absl::Duration plain_interval_;
  absl::Time last_plain_ = absl::InfinitePast();
  bool drawn_ = false;
};

}  // namespace p2::ctl
