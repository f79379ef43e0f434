// A daemon that `p2ctl local` keeps running.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/retry_policy.h"

namespace p2::ctl {

// In a process group of its own, so that the terminal's Ctrl-C does not reach it; gets SIGTERM if the thread that
// started it dies. Its output is appended to a log file. Confined to one thread, which must be the one that outlives
// it.
class ChildProcess {
 public:
  // One that lived for `well_after` is well again: its next restart comes soon.
  ChildProcess(std::string name, std::string log_path, absl::Duration well_after)
      : name_(std::move(name)), log_path_(std::move(log_path)), well_after_(well_after) {}
  // Kills what still runs.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // `argv[0]`: path of the program. NOT_FOUND if there is none.
  absl::Status Start(std::vector<std::string> argv, absl::Time now);
  // Starts it again as before, with its backoff: at most once in 10 s when it keeps dying. REQUIRES: it has been
  // started.
  void RestartIfDead(absl::Time now);

  // Collects its end. True while it runs.
  bool Running();
  // Asks it to end, or ends it.
  void Signal(int signal_number) const;
  // Waits until it has ended, or `deadline`. True: it has.
  bool WaitForEnd(absl::Time deadline);

  // Arguments for the next restart.
  void set_argv(std::vector<std::string> argv) { argv_ = std::move(argv); }
  pid_t pid() const { return pid_; }
  // "exit code 70", "signal 9"; empty while it has not ended.
  const std::string& how_it_ended() const { return how_it_ended_; }
  // -1 while it has not ended, and if a signal ended it.
  int exit_code() const { return exit_code_; }
  const std::string& name() const { return name_; }
  const std::string& log_path() const { return log_path_; }

 private:
  absl::Status Spawn(absl::Time now);

  const std::string name_;
  const std::string log_path_;
  const absl::Duration well_after_;
  std::vector<std::string> argv_;
  pid_t pid_ = -1;
  absl::Time started_;
  std::optional<absl::Time> restart_at_;
  client::Backoff backoff_{absl::Milliseconds(500), absl::Seconds(10)};
  std::string how_it_ended_;
  int exit_code_ = -1;
};

}  // namespace p2::ctl
