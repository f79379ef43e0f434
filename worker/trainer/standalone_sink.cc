#include "worker/trainer/standalone_sink.h"

#include <unistd.h>

#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace p2::trainer {
namespace {

constexpr absl::Duration kLineEvery = absl::Seconds(10);  // Where stdout is no terminal.

}  // namespace

StandaloneSink::StandaloneSink(const std::string& out_dir, int64_t total_images)
    : out_dir_(out_dir), total_images_(total_images), terminal_(::isatty(STDOUT_FILENO) == 1) {}

void StandaloneSink::Emit(const Event& event) {
  absl::MutexLock lock(&mutex_);
  std::visit([this](const auto& value) ABSL_NO_THREAD_SAFETY_ANALYSIS { Show(value); }, event);
  std::fflush(stdout);
}

void StandaloneSink::Line(const std::string& text) {
  if (line_open_) std::fputs("\n", stdout);
  line_open_ = false;
  std::puts(text.c_str());
}

void StandaloneSink::Show(const Started& event) {
  Line(absl::StrCat(event.parameters, " parameters; ",
                    event.resumed_from.empty() ? "a new run" : absl::StrCat("resumed from ", event.resumed_from),
                    " at ", event.images_seen, " images"));
}

void StandaloneSink::Show(const Progress& event) {
  if (event.images_per_second == 0 || (!terminal_ && absl::Now() < next_line_)) return;
  next_line_ = absl::Now() + kLineEvery;
  const double left = static_cast<double>(total_images_ - event.images_seen) / event.images_per_second;
  const std::string text = absl::StrFormat(
      "%5.1f%%  %d / %d images  %.1f images/s  loss %.4f  ETA %s",
      100.0 * static_cast<double>(event.images_seen) / static_cast<double>(total_images_), event.images_seen,
      total_images_, event.images_per_second, loss_, absl::FormatDuration(absl::Seconds(static_cast<int64_t>(left))));
  if (!terminal_) return Line(text);
  absl::PrintF("\r\033[K%s", text);
  line_open_ = true;
}

void StandaloneSink::Show(const MetricPoints& event) {
  if (const auto loss = event.values.find("loss"); loss != event.values.end()) loss_ = loss->second;
}

void StandaloneSink::Show(const CheckpointSaved& event) {
  Line(absl::StrCat("checkpoint ", out_dir_, "/", event.path));
}

void StandaloneSink::Show(const ArtifactWritten& event) {
  Line(absl::StrCat("samples ", out_dir_, "/", event.file_name));
}

void StandaloneSink::Show(const Finished& event) {
  switch (event.outcome) {
    case Finished::Outcome::kDone:
      return Line(absl::StrCat("done at ", event.images_seen, " images"));
    case Finished::Outcome::kStopped:
      return Line(absl::StrCat("stopped at ", event.images_seen, " images; go on with --resume"));
    case Finished::Outcome::kFailed:
      return Line(absl::StrCat("failed at ", event.images_seen, " images: ", event.message));
  }
}

void StandaloneSink::Show(const Notice& event) { Line(absl::StrCat(event.reason, ": ", event.message)); }

}  // namespace p2::trainer
