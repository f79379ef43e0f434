// The text of one log line, shared by both sinks.
#pragma once

#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/logging.h"

namespace p2 {

// {"ts":"2026-11-23T09:00:00.123456Z","level":"info","component":"p2d","msg":"…", fields…} without a newline. Bytes
// that are not UTF-8 or are control characters come out escaped.
std::string FormatLogLine(absl::Time time, LogLevel level, absl::string_view component,
                          const std::map<std::string, std::string>& fields, absl::string_view message);

}  // namespace p2
