// Log lines of ranks as people read them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "p2/v1/log_service.pb.h"

namespace p2::ctl {

// A line that common/log_line.h wrote. Others (of a library, of a crash) are none.
struct LogText {
  absl::Time time;
  std::string level;  // "debug", "info", "warning", "error".
  std::string message;
};
std::optional<LogText> ParseLogText(absl::string_view line);

// What a message of a job, an attempt or an event says happened; in further lines stands the end of a log.
std::string FirstLine(absl::string_view message);

// 0 for debug to 3 for error; "warn" is warning. Nullopt: no level.
std::optional<int> LevelNumber(absl::string_view level);

// "12:13:07 info rank 0  1024 images: …"; a line that is no LogText as it stands, behind its rank where `many_ranks`.
// `dated`: the whole local time.
std::string FormatLogEntry(const v1::LogEntry& entry, bool many_ranks, bool many_attempts, bool dated);

// What the end of a rank's log tells about a failure: its warnings and errors and what is no LogText, else all of it. A
// first line whose start was cut off is left out.
std::vector<std::string> TellingLines(absl::string_view log_tail);

}  // namespace p2::ctl
