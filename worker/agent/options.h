// What p2-worker is told: flags, then the environment (P2_WORKER_…), then a YAML file (--config), then the defaults
// here.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/logging.h"
#include "common/options/layered_options.h"
#include "worker/agent/nvml_library.h"

namespace p2::agent {

struct AgentOptions {
  // host:port of p2d's gRPC.
  std::string coordinator = "127.0.0.1:7250";
  // Worker ID; empty: the host's name made a resource ID.
  std::string name;
  // `cpu:N`, `cuda:0,1`, `auto` (device_inventory.h).
  std::string devices = "auto";
  // NVIDIA's management library: a name that the loader finds, or a path.
  std::string nvml_library = kNvmlLibrary;
  // Storage roots, name and directory.
  std::vector<std::pair<std::string, std::string>> roots;
  // Spool, journal, attempts. Empty: $XDG_STATE_HOME/p2/worker, else ~/.local/state/p2/worker.
  std::string data_dir;
  // Path of p2-trainer; empty: beside this program.
  std::string trainer;
  // host:port of /metrics, /livez, /readyz; port 0 takes a free one; "off" serves none.
  std::string http = "127.0.0.1:7252";
  // IPv4 address, or name of an interface, that other ranks reach this node by. Empty: 127.0.0.1 if the coordinator is
  // on loopback, else the address of the route to it.
  std::string data_interface;
  std::map<std::string, std::string> labels;
  // Written once slots are offered: {"pid": …, "http_port": …, "worker": …}. Empty: none.
  std::string ready_file;

  // Longest gap between heartbeats; the coordinator may ask for more.
  absl::Duration heartbeat_interval = absl::Seconds(2);
  // Longest wait between two attempts to reach the coordinator, and for its Welcome.
  absl::Duration reconnect_max = absl::Seconds(3);
  absl::Duration welcome_timeout = absl::Seconds(10);
  // A connection on which the coordinator's machine acknowledges nothing for so long is given up. >= 1 s.
  absl::Duration connection_timeout = absl::Seconds(10);
  // A rank that was heard of once and sends no event for this long is frozen. 0: never.
  absl::Duration silence_timeout = absl::Seconds(10);
  // Factor on every deadline of a job's spec (tests: 0.1). > 0.
  double watchdog_scale = 1.0;
  // A prepared attempt gives its slots back after this long without Start.
  absl::Duration hold_timeout = absl::Seconds(60);
  // How long the other ranks may report after one ended wrongly, before SIGKILL.
  absl::Duration gang_grace = absl::Seconds(2);
  // At the end: how long to wait for the coordinator to take what is spooled.
  absl::Duration flush_timeout = absl::Seconds(3);
  // /livez fails when the loop did not run for this long.
  absl::Duration stuck_after = absl::Seconds(30);
  // How often the ranks' logs are read, and unsynced spool records synced.
  absl::Duration log_interval = absl::Milliseconds(500);
  // How often ids and free space of the roots are read.
  absl::Duration roots_interval = absl::Seconds(10);
  // Unacknowledged bytes: logs and artifacts stop at three quarters, metrics at the whole; states never (spool.h).
  int64_t spool_limit_bytes = int64_t{256} << 20;
  // Takes up the failpoints in P2_FAILPOINTS, and lets trainers take up those in P2_TRAINER_FAILPOINTS (failpoint.h).
  bool enable_failpoints = false;
  LogLevel log_level = LogLevel::kInfo;
};

// Every option resolved and checked. CANCELLED with the text to print for --help and --version; INVALID_ARGUMENT names
// the flag, variable or line of the file, its value, and what would be right.
absl::StatusOr<AgentOptions> ParseOptions(int argc, const char* const* argv, const EnvironmentReader& getenv);

}  // namespace p2::agent
