#include "worker/agent/journal.h"

#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/failpoint.h"
#include "common/resource_name.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "worker/agent/files.h"

namespace p2::agent {

absl::StatusOr<ProcessId> ReadProcess(pid_t pid) {
  P2_ASSIGN_OR_RETURN(const std::string stat, ReadFile(absl::StrCat("/proc/", pid, "/stat"), 1 << 16));
  // The name in parentheses may hold anything; what follows the last ')' starts with field 3, the state.
  const std::vector<absl::string_view> fields =
      absl::StrSplit(absl::string_view(stat).substr(stat.rfind(')') + 1), ' ', absl::SkipEmpty());
  ProcessId process{pid, 0};
  if (fields.size() < 20 || !absl::SimpleAtoi(fields[19], &process.start_time))
    return absl::InternalError(absl::StrCat("/proc/", pid, "/stat is not understood"));
  if (fields[0] == "Z" || fields[0] == "X") return absl::NotFoundError(absl::StrCat("process ", pid, " has ended"));
  return process;
}

absl::StatusOr<ProcessId> FindProcess(absl::string_view argument) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    const absl::StatusOr<std::string> arguments = ReadFile(absl::StrCat("/proc/", pid, "/cmdline"), 1 << 20);
    if (!arguments.ok()) continue;  // It has ended, or is a stranger's.
    for (const absl::string_view one : absl::StrSplit(*arguments, '\0'))
      if (one == argument) return ReadProcess(pid);
  }
  return absl::NotFoundError(absl::StrCat("no process was started with ", argument));
}

std::string BootId() {
  return std::string(absl::StripTrailingAsciiWhitespace(ReadFile("/proc/sys/kernel/random/boot_id", 64).value_or("")));
}

std::string AttemptDirName(const std::string& job, int64_t epoch) { return absl::StrCat(job, "-e", epoch); }

std::string RankFile(const std::string& attempt_dir, int32_t rank, const char* extension) {
  return absl::StrCat(attempt_dir, "/rank-", rank, ".", extension);
}

std::string WorkDir(const std::string& attempt_dir) { return absl::StrCat(attempt_dir, "/work"); }

absl::Status WriteJournal(const std::string& attempt_dir, const JournalEntry& entry) {
  nlohmann::json json = {{"job", entry.job},
                         {"epoch", entry.epoch},
                         {"attempt", entry.attempt},
                         {"boot_id", entry.boot_id},
                         {"stop_deadline_ms", absl::ToInt64Milliseconds(entry.stop_deadline)},
                         {"ended_sequence", entry.ended_sequence},
                         {"ranks", nlohmann::json::array()}};
  for (const JournalRank& rank : entry.ranks)
    json["ranks"].push_back({{"rank", rank.rank},
                             {"pid", rank.process.pid},
                             {"start_time", rank.process.start_time},
                             {"event_sequence", rank.event_sequence},
                             {"log_offset", rank.log_offset}});
  P2_RETURN_IF_ERROR(P2_FAILPOINT("journal.before_write"));
  P2_RETURN_IF_ERROR(ReplaceFile(absl::StrCat(attempt_dir, "/journal.json"), json.dump(1), 0600));
  return P2_FAILPOINT("journal.after_write");
}

absl::StatusOr<JournalEntry> ReadJournal(const std::string& attempt_dir) {
  const std::string path = absl::StrCat(attempt_dir, "/journal.json");
  P2_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, int64_t{1} << 20));
  try {
    const nlohmann::json json = nlohmann::json::parse(text);
    JournalEntry entry;
    json.at("job").get_to(entry.job);
    json.at("epoch").get_to(entry.epoch);
    json.at("attempt").get_to(entry.attempt);
    json.at("boot_id").get_to(entry.boot_id);
    entry.stop_deadline = absl::Milliseconds(json.at("stop_deadline_ms").get<int64_t>());
    json.at("ended_sequence").get_to(entry.ended_sequence);
    for (const nlohmann::json& item : json.at("ranks")) {
      JournalRank rank;
      item.at("rank").get_to(rank.rank);
      item.at("pid").get_to(rank.process.pid);
      item.at("start_time").get_to(rank.process.start_time);
      item.at("event_sequence").get_to(rank.event_sequence);
      item.at("log_offset").get_to(rank.log_offset);
      entry.ranks.push_back(rank);
    }
    if (!IsResourceId(entry.job) || entry.epoch < 1)
      return absl::DataLossError(absl::StrCat(path, " names no attempt"));
    return entry;
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(absl::StrCat(path, " is no journal: ", error.what()));
  }
}

}  // namespace p2::agent
