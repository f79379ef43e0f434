#include "server/server_options.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status_macros.h"
#include "server/rpc/rpc_server.h"

namespace p2::server {
namespace {

constexpr char kExitCodes[] = R"(

Exit codes: 0 ended by SIGTERM or SIGINT; 1 another error; 2 options that are wrong or contradict each other;
6 a port or the data directory is in use, or cannot be used as it is; 70 the store failed or is damaged, or a backup is.)";

void CheckAddress(const char* flag, const std::string& address, bool insecure, std::vector<std::string>& wrong) {
  const size_t colon = address.rfind(':');
  int port = -1;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 ||
      port > 65535) {
    wrong.push_back(absl::StrCat(flag, " ", address, " is not HOST:PORT, such as 127.0.0.1:7250"));
  } else if (!insecure && !rpc::IsLoopback(address)) {
    wrong.push_back(
        absl::StrCat(flag, " ", address,
                     " is reachable from other machines, and nothing is encrypted or checked: listen on 127.0.0.1, "
                     "or add --insecure if everybody who can reach it may use it"));
  }
}

}  // namespace

absl::StatusOr<ServerOptions> ParseServerOptions(const std::vector<std::string>& arguments,
                                                 const EnvironmentReader& getenv) {
  ServerOptions options;
  LayeredOptions layers("p2d",
                        "the coordinator of p2. Keeps the jobs, decides where they run, serves gRPC and /metrics.",
                        P2_VERSION, "P2D_");
  CLI::App& app = layers.app();
  app.add_option("--data-dir", options.data_dir, "Directory of everything that p2d keeps")->capture_default_str();
  app.add_option("--backup-dir", options.backup_dir, "Where `p2ctl admin backup` makes them [DATA_DIR/backups]");
  app.add_option("--keep-backups", options.keep_backups, "The oldest ones beyond so many are removed")
      ->capture_default_str();
  app.add_option("--restore", options.restore, "Make this backup the content of --data-dir, a new one, and end");
  app.add_flag("--check", options.check, "Check the store in --data-dir and end; changes nothing");
  app.add_option("--listen", options.listen, "gRPC address, HOST:PORT; port 0: any free one")->capture_default_str();
  app.add_option("--http", options.http, "HTTP address of /metrics, /livez and /readyz")->capture_default_str();
  app.add_flag("--insecure", options.insecure, "Allow addresses beyond loopback, without TLS");
  app.add_option("--ready-file", options.ready_file, "Write the addresses here, as JSON, once p2d serves");
  layers.AddLogLevel(options.log_level);
  app.add_flag("--enable-failpoints", options.enable_failpoints,
               "For tests: fail where P2_FAILPOINTS says (docs/reliability.md)");
  layers.AddDuration("--heartbeat-interval", options.heartbeat_interval, "How often a worker must be heard of");
  layers.AddDuration("--suspect-after", options.suspect_after, "Silence after which a worker gets no new gangs");
  layers.AddDuration("--lost-after", options.lost_after, "Silence after which a worker's jobs go elsewhere");
  layers.AddDuration("--prepare-timeout", options.prepare_timeout,
                     "From the reservation of a gang until all its ranks run");
  layers.AddDuration("--gang-backoff", options.gang_backoff, "First wait after a gang was not formed");
  layers.AddDuration("--delete-retry", options.delete_retry, "Wait before a failed deletion is tried again");
  layers.AddDuration("--share-half-life", options.share_half_life, "Fair share: device time counts half after so long");
  layers.AddDuration("--restart-cost", options.restart_cost,
                     "Price of a restart when victims of preemption are chosen");
  app.add_option("--churn-limit", options.churn_limit, "Times that a job may be preempted within --churn-window")
      ->capture_default_str();
  layers.AddDuration("--churn-window", options.churn_window, "See --churn-limit");
  layers.AddDuration("--backfill-least", options.backfill_least, "Least time for which reserved devices are lent");
  app.add_option("--cordon-after-jobs", options.cordon_after_jobs,
                 "Different jobs that break on a worker before it is cordoned; 0: never")
      ->capture_default_str();
  layers.AddDuration("--metrics-raw-for", options.metrics_raw_for,
                     "Metric rows older than that are thinned to one of 16, with mean, minimum and maximum; 0: never");
  layers.AddDuration("--tick-interval", options.tick_interval, "How often deadlines are looked at");
  layers.AddDuration("--disk-interval", options.disk_interval, "How often free space is looked at");
  app.add_option("--max-connections", options.max_connections,
                 "Of clients and workers; beyond these and 512 files of p2d's own new ones are closed")
      ->capture_default_str();
  app.add_option("--submit-rate", options.submit_rate, "Jobs a second that one user may submit; 0: no limit")
      ->capture_default_str();
  app.add_option("--submit-burst", options.submit_burst, "And at once")->capture_default_str();
  layers.AddDuration("--call-timeout", options.call_timeout, "What a call without a deadline of its own gets");
  layers.AddDuration("--watch-interval", options.watch_interval, "Longest silence of a watch");
  layers.AddDuration("--keepalive-interval", options.keepalive_interval,
                     "After so long without traffic a connection is asked for a sign of life");
  layers.AddDuration("--keepalive-timeout", options.keepalive_timeout, "And without one is ended after so long");
  layers.AddDuration("--shutdown-grace", options.shutdown_grace, "What calls in progress get at SIGTERM");
  app.footer(absl::StrCat(app.get_footer(), kExitCodes));
  P2_RETURN_IF_ERROR(layers.Parse(arguments, getenv));
  return options;
}

absl::Status ValidateServerOptions(const ServerOptions& options) {
  std::vector<std::string> wrong;
  if (options.data_dir.empty()) wrong.push_back("--data-dir is empty");
  if (options.keep_backups < 1)
    wrong.push_back(absl::StrCat("--keep-backups ", options.keep_backups, " must be 1 or more"));
  if (options.check && !options.restore.empty()) wrong.push_back("--check and --restore are two commands: give one");
  CheckAddress("--listen", options.listen, options.insecure, wrong);
  CheckAddress("--http", options.http, options.insecure, wrong);
  const std::pair<const char*, absl::Duration> positive[] = {{"--heartbeat-interval", options.heartbeat_interval},
                                                             {"--prepare-timeout", options.prepare_timeout},
                                                             {"--gang-backoff", options.gang_backoff},
                                                             {"--delete-retry", options.delete_retry},
                                                             {"--share-half-life", options.share_half_life},
                                                             {"--churn-window", options.churn_window},
                                                             {"--tick-interval", options.tick_interval},
                                                             {"--disk-interval", options.disk_interval},
                                                             {"--call-timeout", options.call_timeout},
                                                             {"--watch-interval", options.watch_interval},
                                                             {"--keepalive-interval", options.keepalive_interval},
                                                             {"--keepalive-timeout", options.keepalive_timeout}};
  for (const auto& [flag, value] : positive) {
    if (value <= absl::ZeroDuration())
      wrong.push_back(absl::StrCat(flag, " ", absl::FormatDuration(value), " must be positive"));
  }
  if (options.max_connections < 1)
    wrong.push_back(absl::StrCat("--max-connections ", options.max_connections, " must be 1 or more"));
  if (options.submit_burst < 1)
    wrong.push_back(absl::StrCat("--submit-burst ", options.submit_burst, " must be 1 or more"));
  const std::pair<const char*, int> counts[] = {{"--churn-limit", options.churn_limit},
                                                {"--submit-rate", options.submit_rate},
                                                {"--cordon-after-jobs", options.cordon_after_jobs}};
  for (const auto& [flag, value] : counts) {
    if (value < 0) wrong.push_back(absl::StrCat(flag, " ", value, " must be 0 or more"));
  }
  const std::pair<const char*, absl::Duration> lengths[] = {{"--restart-cost", options.restart_cost},
                                                            {"--backfill-least", options.backfill_least}};
  for (const auto& [flag, value] : lengths) {
    if (value < absl::ZeroDuration())
      wrong.push_back(absl::StrCat(flag, " ", absl::FormatDuration(value), " must not be negative"));
  }
  if (options.heartbeat_interval >= options.suspect_after || options.suspect_after > options.lost_after) {
    wrong.push_back(absl::StrCat("--heartbeat-interval (", absl::FormatDuration(options.heartbeat_interval),
                                 ") must be below --suspect-after (", absl::FormatDuration(options.suspect_after),
                                 "), and that at most --lost-after (", absl::FormatDuration(options.lost_after), ")"));
  }
  return wrong.empty() ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrJoin(wrong, "\n"));
}

}  // namespace p2::server
