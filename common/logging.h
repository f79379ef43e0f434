// The logging facade: one JSON object a line on the sink that the process chose.
//
//   P2_LOG(kInfo) << "worker " << name << " is suspect after " << silence;
//
// Two sinks: logging_spdlog.cc for the daemons and p2ctl, logging_stderr.cc for p2-trainer (no fmt or spdlog may share
// a process with torch). A program links exactly one of them; libraries link only this header. Thread-safe.
#pragma once

#include <sstream>
#include <string>

#include "absl/strings/string_view.h"

namespace p2 {

enum class LogLevel { kDebug = 0, kInfo = 1, kWarning = 2, kError = 3 };

// Implemented by the sink. `component` stands in every later line ("p2d", "p2-worker"); lines below `level` are
// dropped.
void InitLogging(absl::string_view component, LogLevel level);
bool LogEnabled(LogLevel level);
// `message` may hold any bytes; the sink escapes them. Never pass a secret.
void WriteLog(LogLevel level, absl::string_view message);

// Adds a field to every later line of this process ("job", "rank"). Call before threads start.
void SetLogField(absl::string_view key, absl::string_view value);

// Collects one line and writes it when it goes out of scope.
class LogLine {
 public:
  explicit LogLine(LogLevel level) : level_(level) {}
  ~LogLine() { WriteLog(level_, stream_.str()); }
  LogLine(const LogLine&) = delete;
  LogLine& operator=(const LogLine&) = delete;

  std::ostream& stream() { return stream_; }

 private:
  const LogLevel level_;
  std::ostringstream stream_;
};

// While it lives, this thread's lines are kept; they are written all at once, in their order, when it goes. For a
// thread that writes many at a time. Keep it short: what ends the process takes them along. Not one within another.
class LogGroup {
 public:
  LogGroup();
  ~LogGroup();
  LogGroup(const LogGroup&) = delete;
  LogGroup& operator=(const LogGroup&) = delete;
};

}  // namespace p2

#define P2_LOG(level)                             \
  if (!::p2::LogEnabled(::p2::LogLevel::level)) { \
  } else                                          \
    ::p2::LogLine(::p2::LogLevel::level).stream()
