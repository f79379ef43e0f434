// `$XDG_STATE_HOME/p2/local.json`: what `p2ctl local` runs on this machine.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace p2::ctl {

struct LocalRoot {
  std::string name;
  std::string id;    // UUID in its `.p2-root-id`.
  std::string path;  // Absolute.
};

struct LocalState {
  pid_t pid = 0;                // Of `p2ctl local`.
  std::string process_started;  // Field 22 of /proc/PID/stat: a recycled pid is told apart.
  std::string address;          // gRPC, host:port.
  std::string http_address;     // p2d's /metrics.
  std::string worker_http_address;
  pid_t server_pid = 0;
  pid_t worker_pid = 0;
  std::string data_dir;
  std::vector<LocalRoot> roots;
};

// By XDG_STATE_HOME, else HOME/.local/state.
std::string LocalStatePath();

// What runs now; nullopt without a file, or if its process is gone. INVALID_ARGUMENT: the file is damaged.
absl::StatusOr<std::optional<LocalState>> ReadLocalState(const std::string& path);

// Written beside it and renamed; the directory is made.
absl::Status WriteLocalState(const LocalState& state, const std::string& path);

// When `pid` started, in clock ticks since boot; empty if it does not run.
std::string ProcessStarted(pid_t pid);

}  // namespace p2::ctl
