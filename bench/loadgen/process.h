// Programs that a benchmark starts, each on a core of its own.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace p2::loadgen {

// The core of what is measured and the core of who measures: the first two that this process may use, or the same one
// twice.
struct Cores {
  int server = 0, generator = 0;
  bool apart() const { return server != generator; }
};
Cores ChooseCores();
// Of the calling thread and those that it starts from now on.
void PinTo(int core);

// A directory that is removed with all in it at the end, also when a signal ends the process (EndWithSignals).
class TemporaryDirectory {
 public:
  // In `parent`. INVALID_ARGUMENT.
  static absl::StatusOr<std::unique_ptr<TemporaryDirectory>> Make(const std::string& parent);
  ~TemporaryDirectory();
  const std::string& path() const { return path_; }
  // Whether fsync there reaches a disk; false of tmpfs.
  bool on_disk() const;

 private:
  explicit TemporaryDirectory(std::string path) : path_(std::move(path)) {}
  const std::string path_;
};

// SIGINT and SIGTERM end the process with exit code 128 + the signal, and remove every TemporaryDirectory. Call it
// before the first thread starts. Children die with the process (Process).
void EndWithSignals();

// A child that gets SIGKILL when this process ends.
class Process {
 public:
  // `argv[0]`: path of the program. Its output is appended to `log`. NOT_FOUND. The calling thread must outlive it.
  static absl::StatusOr<std::unique_ptr<Process>> Start(const std::vector<std::string>& argv, const std::string& log,
                                                        int core);
  // SIGKILL, if it still runs.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // SIGKILL, and reaps it.
  void Kill();
  // Reaps it if it has ended. True: it runs.
  bool Running();
  // Resident memory now; processor time so far. 0 of one that has ended.
  int64_t ResidentBytes() const;
  absl::Duration CpuTime() const;

 private:
  explicit Process(pid_t pid) : pid_(pid) {}
  pid_t pid_;  // -1: reaped.
};

// The end of a text file.
std::string TailOf(const std::string& path, size_t bytes = 2000);

}  // namespace p2::loadgen
