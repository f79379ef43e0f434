#include "client/p2ctl/log_text.h"

#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace p2::ctl {

std::optional<LogText> ParseLogText(absl::string_view line) {
  if (!absl::StartsWith(line, "{")) return std::nullopt;
  const nlohmann::json json = nlohmann::json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  const auto text = [&json](const char* key) {
    const auto at = json.find(key);
    return at != json.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  LogText log;
  std::string ignored;
  if (!json.is_object() || !json.contains("msg") ||
      !absl::ParseTime(absl::RFC3339_full, text("ts"), &log.time, &ignored))
    return std::nullopt;
  log.level = text("level");
  log.message = text("msg");
  return log;
}

std::string FirstLine(absl::string_view message) { return std::string(message.substr(0, message.find('\n'))); }

std::optional<int> LevelNumber(absl::string_view level) {
  if (level == "debug") return 0;
  if (level == "info") return 1;
  if (level == "warning" || level == "warn") return 2;
  if (level == "error") return 3;
  return std::nullopt;
}

std::string FormatLogEntry(const v1::LogEntry& entry, bool many_ranks, bool many_attempts, bool dated) {
  const std::string attempt = many_attempts ? absl::StrCat("attempt ", entry.attempt(), " ") : "";
  const std::string rank = absl::StrCat("rank ", entry.rank(), "  ");
  const std::optional<LogText> log = ParseLogText(entry.line());
  if (!log.has_value()) return absl::StrCat(attempt, many_ranks || many_attempts ? rank : "", entry.line());
  const std::string time = absl::FormatTime(dated ? "%Y-%m-%d %H:%M:%S" : "%H:%M:%S", log->time, absl::LocalTimeZone());
  return absl::StrCat(time, " ", log->level, " ", attempt, rank, log->message);
}

std::vector<std::string> TellingLines(absl::string_view log_tail) {
  std::vector<std::string> telling, all;
  bool first = true;
  for (const absl::string_view line : absl::StrSplit(log_tail, '\n')) {
    const bool cut = first && !absl::StartsWith(line, "{") && absl::EndsWith(line, "\"}");
    first = false;
    if (line.empty() || cut) continue;
    const std::optional<LogText> log = ParseLogText(line);
    all.push_back(log.has_value() ? absl::StrCat(absl::FormatTime("%H:%M:%S", log->time, absl::LocalTimeZone()), " ",
                                                 log->level, "  ", log->message)
                                  : std::string(line));
    if (!log.has_value() || LevelNumber(log->level).value_or(3) >= 2) telling.push_back(all.back());
  }
  return telling.empty() ? all : telling;
}

}  // namespace p2::ctl
