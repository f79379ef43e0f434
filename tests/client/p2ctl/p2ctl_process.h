// Runs the real p2ctl binary.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace p2::testing {

struct P2ctlResult {
  int exit_code = -1;  // 128 + n for signal n.
  std::string out;
  std::string err;
};

// A p2ctl that runs. Killed if it is destroyed before Wait.
class P2ctlProcess {
 public:
  // `environment` is laid over a clean one: HOME and XDG_* lie in a new directory, no P2_* is set, the zone is UTC.
  // `program`: another binary than bin/p2ctl.
  P2ctlProcess(std::vector<std::string> arguments, std::map<std::string, std::string> environment = {},
               std::string program = "");
  ~P2ctlProcess();
  P2ctlProcess(const P2ctlProcess&) = delete;
  P2ctlProcess& operator=(const P2ctlProcess&) = delete;

  void Signal(int signal_number) const;
  // Reads stdout (or stderr) until `text` was seen; false if it ended first.
  bool ReadUntil(const std::string& text, bool from_stderr = false);
  P2ctlResult Wait();
  pid_t pid() const { return pid_; }

 private:
  // False at the end of both.
  bool ReadSome();

  pid_t pid_ = -1;
  int out_fd_ = -1;
  int err_fd_ = -1;
  P2ctlResult result_;
};

P2ctlResult RunP2ctl(std::vector<std::string> arguments, std::map<std::string, std::string> environment = {});

// A new directory.
std::string MakeTempDir();

}  // namespace p2::testing
