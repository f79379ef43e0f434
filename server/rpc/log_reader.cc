#include "server/rpc/log_reader.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/strip.h"
#include "common/status_macros.h"

namespace p2::rpc {
namespace {

constexpr int64_t kReadBytes = 256 * 1024;

}  // namespace

absl::Status LogReader::SeekToTail(int64_t lines) {
  P2_ASSIGN_OR_RETURN(const std::vector<store::LogFile> logs, blobs_.ListLogs(job_));
  const auto found = std::find_if(logs.begin(), logs.end(), [this](const store::LogFile& log) {
    return log.attempt == attempt_ && log.rank == rank_;
  });
  if (found == logs.end()) return absl::OkStatus();
  const int64_t begin = std::max<int64_t>(0, found->size_bytes - kMaxTailBytes);
  P2_ASSIGN_OR_RETURN(const std::string tail, blobs_.ReadLog(job_, attempt_, rank_, begin, kMaxTailBytes));
  size_t start = 0;
  if (begin > 0) start = std::min(tail.size(), tail.find('\n') + 1);  // Not the middle of a line.
  if (lines > 0) {
    size_t end = tail.size();
    if (end > 0 && tail[end - 1] == '\n') --end;
    for (int64_t i = 0; i < lines && end > start; ++i) {
      const size_t newline = tail.rfind('\n', end - 1);
      if (newline == std::string::npos || newline < start) {
        end = start;
        break;
      }
      end = newline;
    }
    start = end > start ? end + 1 : start;
  }
  offset_ = begin + static_cast<int64_t>(start);
  return absl::OkStatus();
}

absl::Status LogReader::Read(bool final, Visit visit) {
  while (true) {
    absl::StatusOr<std::string> data = blobs_.ReadLog(job_, attempt_, rank_, offset_, kReadBytes);
    if (absl::IsNotFound(data.status()) || (data.ok() && data->empty())) return absl::OkStatus();
    P2_RETURN_IF_ERROR(data.status());
    const int64_t base = offset_;
    size_t begin = 0;
    while (begin < data->size()) {
      size_t end = data->find('\n', begin);
      const bool whole = end != std::string::npos;
      if (!whole) end = data->size();
      const bool too_long = end - begin > static_cast<size_t>(kMaxLineBytes);
      if (too_long) end = begin + kMaxLineBytes;
      const bool last_of_file = !whole && static_cast<int64_t>(data->size()) < kReadBytes;
      if (!whole && !too_long && !(final && last_of_file)) break;
      absl::string_view line = absl::string_view(*data).substr(begin, end - begin);
      absl::ConsumeSuffix(&line, "\r");
      begin = whole && !too_long ? end + 1 : end;
      offset_ = base + static_cast<int64_t>(begin);
      if (!visit(line, offset_)) return absl::OkStatus();
    }
    if (begin == 0) return absl::OkStatus();
  }
}

}  // namespace p2::rpc
