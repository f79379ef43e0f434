// The daemons' sink: spdlog, JSON lines on stderr.
#include <algorithm>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/log_line.h"
#include "common/logging.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace p2 {
namespace {

struct Sink {
  Sink() : logger(std::make_shared<spdlog::logger>("p2", std::make_shared<spdlog::sinks::stderr_sink_mt>())) {
    logger->set_pattern("%v");
    logger->flush_on(spdlog::level::info);
  }

  const std::shared_ptr<spdlog::logger> logger;
  absl::Mutex mutex;
  std::string component ABSL_GUARDED_BY(mutex);
  std::map<std::string, std::string> fields ABSL_GUARDED_BY(mutex);
};

Sink& GetSink() {
  static Sink* const sink = new Sink;
  return *sink;
}

// This thread's lines, each with its end but the last, while a LogGroup lives.
struct Group {
  bool open = false;
  spdlog::level::level_enum level = spdlog::level::debug;  // The highest of them.
  std::string lines;
};
thread_local Group group;

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

}  // namespace

void InitLogging(absl::string_view component, LogLevel level) {
  Sink& sink = GetSink();
  absl::MutexLock lock(&sink.mutex);
  sink.component = std::string(component);
  sink.logger->set_level(ToSpdlog(level));
}

bool LogEnabled(LogLevel level) { return GetSink().logger->should_log(ToSpdlog(level)); }

void WriteLog(LogLevel level, absl::string_view message) {
  Sink& sink = GetSink();
  std::string line;
  {
    absl::MutexLock lock(&sink.mutex);
    line = FormatLogLine(absl::Now(), level, sink.component, sink.fields, message);
  }
  if (!group.open) return sink.logger->log(ToSpdlog(level), line);
  group.level = std::max(group.level, ToSpdlog(level));
  absl::StrAppend(&group.lines, group.lines.empty() ? "" : "\n", line);
}

LogGroup::LogGroup() { group = {.open = true}; }

LogGroup::~LogGroup() {
  if (!group.lines.empty()) GetSink().logger->log(group.level, group.lines);
  group = {};
}

void SetLogField(absl::string_view key, absl::string_view value) {
  Sink& sink = GetSink();
  absl::MutexLock lock(&sink.mutex);
  sink.fields[std::string(key)] = std::string(value);
}

}  // namespace p2
