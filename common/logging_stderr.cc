// The trainer's sink: JSON lines on stderr, which the agent collects by rank.
#include <unistd.h>

#include <atomic>
#include <map>
#include <string>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "common/log_line.h"
#include "common/logging.h"

namespace p2 {
namespace {

struct Sink {
  absl::Mutex mutex;
  std::string component ABSL_GUARDED_BY(mutex);
  std::map<std::string, std::string> fields ABSL_GUARDED_BY(mutex);
  std::atomic<LogLevel> level{LogLevel::kInfo};
};

// This thread's lines while a LogGroup lives.
struct Group {
  bool open = false;
  std::string lines;
};
thread_local Group group;

// One write keeps lines of several threads whole. A closed stderr is nobody's error here.
void Write(const std::string& lines) {
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, lines.data(), lines.size());
}

Sink& GetSink() {
  static Sink* const sink = new Sink;
  return *sink;
}

}  // namespace

void InitLogging(absl::string_view component, LogLevel level) {
  Sink& sink = GetSink();
  absl::MutexLock lock(&sink.mutex);
  sink.component = std::string(component);
  sink.level = level;
}

bool LogEnabled(LogLevel level) { return level >= GetSink().level.load(std::memory_order_relaxed); }

void WriteLog(LogLevel level, absl::string_view message) {
  Sink& sink = GetSink();
  absl::MutexLock lock(&sink.mutex);
  const std::string line = FormatLogLine(absl::Now(), level, sink.component, sink.fields, message) + "\n";
  if (group.open) {
    group.lines += line;
  } else {
    Write(line);
  }
}

LogGroup::LogGroup() { group = {.open = true, .lines = ""}; }

LogGroup::~LogGroup() {
  if (!group.lines.empty()) Write(group.lines);
  group = {};
}

void SetLogField(absl::string_view key, absl::string_view value) {
  Sink& sink = GetSink();
  absl::MutexLock lock(&sink.mutex);
  sink.fields[std::string(key)] = std::string(value);
}

}  // namespace p2
