#include "worker/trainer/progress_csv.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/spec/snr_bins.h"
#include "common/status_macros.h"

namespace p2::trainer {
namespace {

constexpr size_t kMaxBytes = size_t{1} << 30;

std::vector<std::string> Columns(const std::vector<std::string>& ema_profiles) {
  std::vector<std::string> columns{"grad_norm"};
  for (const char* term : {"loss", "mse", "vb"}) {
    columns.emplace_back(term);
    for (int quarter = 0; quarter < 4; ++quarter) columns.push_back(absl::StrCat(term, "_q", quarter));
    if (columns.size() == 6) columns.insert(columns.end(), {"samples", "step"});
  }
  columns.insert(columns.end(), {"mse_raw", "nonfinite_steps", "images_per_second", "step_seconds"});
  for (const std::string& profile : ema_profiles) columns.push_back(absl::StrCat("ema_distance_", profile));
  for (int bin = 0; bin < spec::kSnrBins; ++bin) columns.push_back(spec::SnrBinName("loss_snr_", bin));
  return columns;
}

// The name of a column's value in MetricPoints.
std::string ValueOf(const std::string& column) {
  if (column == "mse") return "mse_weighted";
  if (column == "mse_raw") return "mse";
  return column;
}

std::string Line(const std::vector<std::string>& cells) { return absl::StrCat(absl::StrJoin(cells, ","), "\n"); }

absl::StatusOr<std::string> ReadText(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok()) return FileError("open", path);
  P2_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, ReadWhole(fd.get(), path, kMaxBytes));
  return std::string(bytes.begin(), bytes.end());
}

}  // namespace

absl::StatusOr<std::unique_ptr<ProgressCsv>> ProgressCsv::Open(const std::string& path, int64_t images_seen,
                                                               const std::vector<std::string>& ema_profiles) {
  std::unique_ptr<ProgressCsv> csv(new ProgressCsv(path, Columns(ema_profiles)));
  P2_RETURN_IF_ERROR(csv->Truncate(images_seen));
  return csv;
}

absl::Status ProgressCsv::Truncate(int64_t images_seen) {
  fd_.reset();
  const absl::StatusOr<std::string> old = ReadText(path_);
  if (!old.ok() && !absl::IsNotFound(old.status())) return old.status();
  std::string text = Line(columns_);
  if (old.ok()) {
    std::vector<std::string> lines = absl::StrSplit(*old, '\n');
    lines.pop_back();  // What follows the last newline: nothing, or a torn row.
    std::vector<std::string> head;
    if (!lines.empty()) head = absl::StrSplit(lines.front(), ',');
    for (size_t i = 1; i < lines.size(); ++i) {
      const std::vector<std::string> cells = absl::StrSplit(lines[i], ',');
      if (cells.size() != head.size()) continue;
      std::map<std::string, std::string> row;
      for (size_t c = 0; c < cells.size(); ++c) row[head[c]] = cells[c];
      int64_t samples = 0;
      if (!absl::SimpleAtoi(row["samples"], &samples) || samples > images_seen) continue;
      std::vector<std::string> kept;
      for (const std::string& column : columns_) kept.push_back(row[column]);
      text += Line(kept);
    }
  }
  // Also where nothing is cut: ranks that were cut off go on with the file that was, not with this one.
  P2_RETURN_IF_ERROR(ReplaceFile(path_, text));
  fd_.reset(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  return fd_.ok() ? absl::OkStatus() : FileError("open", path_);
}

absl::Status ProgressCsv::Add(int64_t images_seen, int64_t step, const std::map<std::string, double>& values) {
  std::vector<std::string> cells;
  for (const std::string& column : columns_) {
    const auto value = values.find(ValueOf(column));
    cells.push_back(column == "samples"     ? absl::StrCat(images_seen)
                    : column == "step"      ? absl::StrCat(step - 1)
                    : value == values.end() ? ""
                                            : absl::StrFormat("%.9g", value->second));
  }
  return WriteAll(fd_.get(), path_, Line(cells));
}

}  // namespace p2::trainer
