// p2d's options: flags over environment (P2D_…) over a YAML file (--config) over defaults.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/logging.h"
#include "common/options/layered_options.h"

namespace p2::server {

struct ServerOptions {
  // Holds everything that p2d keeps. Made if missing.
  std::string data_dir = "p2-data";
  // Where `p2ctl admin backup` makes them, made if missing; empty: `backups` in data_dir. As many are kept. REQUIRES:
  // keep_backups >= 1.
  std::string backup_dir;
  int keep_backups = 24;
  // Instead of serving (offline.h): restore this backup into data_dir, or check what is in data_dir. REQUIRES: not
  // both.
  std::string restore;
  bool check = false;
  // gRPC and HTTP, HOST:PORT; port 0: an ephemeral one.
  std::string listen = "127.0.0.1:7250";
  std::string http = "127.0.0.1:7251";
  // Allows addresses beyond loopback although nothing is encrypted or checked.
  bool insecure = false;
  // Written when p2d serves: {"grpc":"127.0.0.1:7250","http":"127.0.0.1:7251","pid":1}. Empty: none.
  std::string ready_file;
  LogLevel log_level = LogLevel::kInfo;
  // Takes up the failpoints in P2_FAILPOINTS (common/failpoint.h).
  bool enable_failpoints = false;

  // Leases of workers. REQUIRES: heartbeat_interval < suspect_after <= lost_after.
  absl::Duration heartbeat_interval = absl::Seconds(2);
  absl::Duration suspect_after = absl::Seconds(10);
  absl::Duration lost_after = absl::Seconds(15);
  // From the reservation of a gang until all its ranks run.
  absl::Duration prepare_timeout = absl::Seconds(30);
  // First wait after a gang was not formed, and between tries to delete files.
  absl::Duration gang_backoff = absl::Seconds(2);
  absl::Duration delete_retry = absl::Seconds(60);
  // Scheduling (docs/scheduling.md): device time counts half as much after so long; what a restart costs, in time of
  // its devices, as part of a preemption's price; a job is preempted at most churn_limit times within churn_window;
  // least time for which reserved devices are lent; different jobs that break on a worker before it is cordoned, 0:
  // never.
  absl::Duration share_half_life = absl::Hours(24);
  absl::Duration restart_cost = absl::Seconds(60);
  int churn_limit = 3;
  absl::Duration churn_window = absl::Hours(1);
  absl::Duration backfill_least = absl::Minutes(5);
  int cordon_after_jobs = 2;
  // Metric rows older than that are thinned to one of 16; 0: never.
  absl::Duration metrics_raw_for = absl::Hours(30 * 24);
  // How often time itself is looked at, and the disk's free space.
  absl::Duration tick_interval = absl::Milliseconds(200);
  absl::Duration disk_interval = absl::Seconds(5);
  // Jobs that one user may submit: a second in the long run (0: no limit), and at once.
  int submit_rate = 1000;
  int submit_burst = 20'000;
  // Connections of clients and workers together; a further one is closed at once.
  int max_connections = 16'000;
  // What a call without a deadline of its own gets, and how long a watch is silent at most.
  absl::Duration call_timeout = absl::Seconds(30);
  absl::Duration watch_interval = absl::Seconds(15);
  // A connection without traffic is asked for a sign of life after the interval, and ended after the timeout.
  absl::Duration keepalive_interval = absl::Seconds(20);
  absl::Duration keepalive_timeout = absl::Seconds(10);
  // What calls in progress get at SIGTERM.
  absl::Duration shutdown_grace = absl::Seconds(5);
};

// The program's arguments, resolved. CANCELLED with the text to print for --help and --version; INVALID_ARGUMENT names
// the flag, variable or line of the file, its value, and what would be right.
absl::StatusOr<ServerOptions> ParseServerOptions(const std::vector<std::string>& arguments,
                                                 const EnvironmentReader& getenv);

// INVALID_ARGUMENT, naming every option that cannot be (an address beyond loopback without --insecure among them).
absl::Status ValidateServerOptions(const ServerOptions& options);

}  // namespace p2::server
