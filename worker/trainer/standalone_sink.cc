#include "worker/trainer/standalone_sink.h"

#include <unistd.h>

#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/spec/snr_bins.h"

namespace p2::trainer {
namespace {

constexpr absl::Duration kLineEvery = absl::Seconds(10);  // Where stdout is no terminal.

std::vector<std::string> Columns() {
  std::vector<std::string> columns{
      "loss", "mse", "mse_weighted", "vb", "grad_norm", "images_per_second", "step_seconds", "nonfinite_steps"};
  for (int bin = 0; bin < spec::kSnrBins; ++bin) columns.push_back(spec::SnrBinName("loss_snr_", bin));
  return columns;
}

}  // namespace

StandaloneSink::StandaloneSink(const std::string& out_dir, int64_t total_images)
    : out_dir_(out_dir), total_images_(total_images), terminal_(::isatty(STDOUT_FILENO) == 1) {
  csv_ = std::fopen(absl::StrCat(out_dir, "/metrics.csv").c_str(), "ae");
  if (csv_ != nullptr && std::ftell(csv_) == 0)
    absl::FPrintF(csv_, "images_seen,step,%s\n", absl::StrJoin(Columns(), ","));
}

StandaloneSink::~StandaloneSink() {
  if (csv_ != nullptr) std::fclose(csv_);
}

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
  const auto value = [&](const std::string& name) {
    const auto found = event.values.find(name);
    return found == event.values.end() ? std::string() : absl::StrFormat("%.9g", found->second);
  };
  if (const auto loss = event.values.find("loss"); loss != event.values.end()) loss_ = loss->second;
  if (csv_ == nullptr) return;
  std::vector<std::string> cells{absl::StrCat(event.images_seen), absl::StrCat(event.step)};
  for (const std::string& column : Columns()) cells.push_back(value(column));
  absl::FPrintF(csv_, "%s\n", absl::StrJoin(cells, ","));
  std::fflush(csv_);
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
