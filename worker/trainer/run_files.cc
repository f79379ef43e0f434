#include "worker/trainer/run_files.h"

#include <fcntl.h>

#include <utility>
#include <variant>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/file_util.h"
#include "common/status_macros.h"
#include "common/storage_layout.h"

namespace p2::trainer {
namespace {

constexpr size_t kMaxPngBytes = 256 << 20;

// The tag of a value; empty for what only p2 reads.
std::string TagOf(const std::string& name) {
  absl::string_view rest = name;
  if (absl::ConsumePrefix(&rest, "loss_snr_")) return absl::StrCat("snr/loss_", rest);
  if (absl::ConsumePrefix(&rest, "weighted_share_snr_") || absl::ConsumePrefix(&rest, "count_snr_")) return "";
  if (absl::ConsumePrefix(&rest, "ema_distance_")) return absl::StrCat("ema/distance_", rest);
  const bool is_speed =
      absl::StartsWith(name, "step_seconds") || absl::StartsWith(name, "checkpoint_") || name == "images_per_second";
  return absl::StrCat(is_speed ? "perf/" : "train/", name);
}

absl::StatusOr<std::string> ReadPng(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return FileError("open", path);
  P2_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, ReadWhole(fd.get(), path, kMaxPngBytes));
  return std::string(bytes.begin(), bytes.end());
}

}  // namespace

void RunFiles::Emit(const Event& event) {
  const bool picture = std::holds_alternative<ArtifactWritten>(event);
  const bool written = picture || std::holds_alternative<Started>(event) || std::holds_alternative<MetricPoints>(event);
  if (!picture) next_.Emit(event);
  if (!written) return;  // A sign of life waits for no file.
  {
    absl::MutexLock lock(&mutex_);
    if (picture) Write(std::get<ArtifactWritten>(event));
    if (const auto* started = std::get_if<Started>(&event)) Write(*started);
    if (const auto* points = std::get_if<MetricPoints>(&event)) Write(*points);
  }
  if (picture) next_.Emit(event);  // It was read before anyone else hears of it and moves it.
}

template <typename File>
void RunFiles::Check(const absl::Status& status, std::unique_ptr<File>& file) {
  if (status.ok()) return;
  file.reset();
  next_.Emit(Notice{"RUN_FILE_FAILED",
                    absl::StrCat(std::string(status.message()), "; nothing more is written to it by this attempt"),
                    {}});
}

absl::Status RunFiles::OpenEvents(const Started& event) {
  P2_ASSIGN_OR_RETURN(events_,
                      TensorboardWriter::Create(absl::StrCat(RunDirectory(options_), "/", kTensorboardDirectory)));
  P2_RETURN_IF_ERROR(events_->Restart(event.images_seen + 1));
  std::string facts = absl::StrCat("    attempt: ", options_.attempt, "\n    parameters: ", event.parameters, "\n");
  for (const auto& [name, value] : event.fingerprint) absl::StrAppend(&facts, "    ", name, ": ", value, "\n");
  P2_RETURN_IF_ERROR(events_->AddText(event.images_seen, "run", facts));
  return events_->AddText(event.images_seen, "spec", absl::StrCat("```json\n", options_.spec_json, "\n```"));
}

void RunFiles::Write(const Started& event) {
  reported_ = event.images_seen;
  Check(OpenEvents(event), events_);
  std::vector<std::string> profiles;
  for (const EmaProfile& profile : options_.spec.emas) profiles.push_back(profile.name);
  absl::StatusOr<std::unique_ptr<ProgressCsv>> csv =
      ProgressCsv::Open(absl::StrCat(RunDirectory(options_), "/", kProgressFile), event.images_seen, profiles);
  if (csv.ok()) csv_ = *std::move(csv);
  Check(csv.status(), csv_);
}

void RunFiles::Write(const MetricPoints& event) {
  const bool went_back = event.images_seen <= std::exchange(reported_, event.images_seen);
  if (events_ != nullptr) {
    std::vector<std::pair<std::string, double>> scalars;
    for (const auto& [name, value] : event.values) {
      if (std::string tag = TagOf(name); !tag.empty()) scalars.emplace_back(std::move(tag), value);
    }
    absl::Status status = went_back ? events_->Restart(event.images_seen) : absl::OkStatus();
    if (status.ok()) status = events_->AddScalars(event.images_seen, scalars);
    Check(status, events_);
  }
  if (csv_ != nullptr) {
    absl::Status status = went_back ? csv_->Truncate(event.images_seen - 1) : absl::OkStatus();
    if (status.ok()) status = csv_->Add(event.images_seen, event.step, event.values);
    Check(status, csv_);
  }
}

void RunFiles::Write(const ArtifactWritten& event) {
  if (events_ == nullptr || event.content_type != "image/png") return;
  const absl::StatusOr<std::string> png = ReadPng(absl::StrCat(options_.work_dir, "/", event.file_name));
  Check(png.ok() ? events_->AddPng(event.images_seen, absl::StrCat(event.kind, "/grid"), *png) : png.status(), events_);
}

}  // namespace p2::trainer
