// What a worker must know about its attempts after it died: one file `journal.json` in each attempt's directory
// (DATA/attempts/JOB-eEPOCH), written before that matters and removed with the directory once p2d has everything.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace p2::agent {

// A process that cannot be mistaken for another: pids are used again, a pid with its start time within a boot is not.
struct ProcessId {
  pid_t pid = 0;
  // Field 22 of /proc/PID/stat, clock ticks since boot.
  uint64_t start_time = 0;

  bool operator==(const ProcessId&) const = default;
};

// NOT_FOUND if there is no such process. A zombie counts as none.
absl::StatusOr<ProcessId> ReadProcess(pid_t pid);
// The process one of whose arguments is `argument`; NOT_FOUND if there is none.
absl::StatusOr<ProcessId> FindProcess(absl::string_view argument);
// Value of /proc/sys/kernel/random/boot_id.
std::string BootId();

struct JournalRank {
  int32_t rank = 0;
  // pid 0: not started, or the worker died before it could write down that it had.
  ProcessId process;
  // Sequence of the last event, and bytes of the log, that are in the spool or beyond it.
  uint64_t event_sequence = 0;
  int64_t log_offset = 0;

  bool operator==(const JournalRank&) const = default;
};

struct JournalEntry {
  std::string job;
  int64_t epoch = 0;
  int32_t attempt = 0;
  std::string boot_id;
  absl::Duration stop_deadline;
  std::vector<JournalRank> ranks;
  // Spool sequence of AttemptEnded; 0: it has not ended.
  uint64_t ended_sequence = 0;

  bool operator==(const JournalEntry&) const = default;
};

// Layout of an attempt's directory.
std::string AttemptDirName(const std::string& job, int64_t epoch);
std::string RankFile(const std::string& attempt_dir, int32_t rank, const char* extension);  // rank-0.log
std::string WorkDir(const std::string& attempt_dir);

absl::Status WriteJournal(const std::string& attempt_dir, const JournalEntry& entry);
// DATA_LOSS if the file is no journal.
absl::StatusOr<JournalEntry> ReadJournal(const std::string& attempt_dir);

}  // namespace p2::agent
