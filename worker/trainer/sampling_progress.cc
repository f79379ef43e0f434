#include "worker/trainer/sampling_progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace p2::trainer {
namespace {

constexpr absl::Duration kRewriteEvery = absl::Milliseconds(200);
constexpr absl::Duration kLineEvery = absl::Seconds(10);

}  // namespace

SamplingProgress::SamplingProgress(int64_t images, int64_t steps)
    : images_(images),
      steps_(std::max<int64_t>(1, steps)),
      terminal_(::isatty(STDERR_FILENO) == 1),
      begin_(absl::Now()),
      next_line_(begin_ + (terminal_ ? kRewriteEvery : kLineEvery)) {}

void SamplingProgress::AddSteps(int64_t steps) {
  absl::MutexLock lock(&mutex_);
  steps_done_ += steps;
  const absl::Time now = absl::Now();
  if (now < next_line_) return;
  next_line_ = now + (terminal_ ? kRewriteEvery : kLineEvery);
  Show(now);
}

void SamplingProgress::AddImage() {
  absl::MutexLock lock(&mutex_);
  ++images_done_;
}

void SamplingProgress::Show(absl::Time now) {
  const double part = static_cast<double>(steps_done_) / static_cast<double>(steps_);
  const double seconds = absl::ToDoubleSeconds(now - begin_);
  const std::string text = absl::StrFormat(
      "%5.1f%%  %d / %d images  %.3g images/s  ETA %s", 100 * part, images_done_, images_,
      part * static_cast<double>(images_) / seconds,
      absl::FormatDuration(absl::Seconds(static_cast<int64_t>(seconds * (1 - part) / std::max(part, 1e-9)))));
  absl::FPrintF(stderr, terminal_ ? "\r\033[K%s" : "%s\n", text);
  line_open_ = terminal_;
}

std::string SamplingProgress::Finish() {
  absl::MutexLock lock(&mutex_);
  if (line_open_) std::fputs("\n", stderr);
  line_open_ = false;
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin_);
  return absl::StrFormat("%d images in %.2fs, %.4g images/s", images_done_, seconds,
                         static_cast<double>(images_done_) / std::max(seconds, 1e-9));
}

}  // namespace p2::trainer
