#include "worker/agent/options.h"

#include <unistd.h>

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/resource_name.h"
#include "common/status_macros.h"
#include "worker/agent/files.h"

namespace p2::agent {
namespace {

absl::StatusOr<std::pair<std::string, std::string>> SplitPair(const char* flag, const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0) {
    return absl::InvalidArgumentError(absl::StrCat(flag, ": \"", text, "\" is not NAME=VALUE"));
  }
  return std::make_pair(text.substr(0, equals), text.substr(equals + 1));
}

std::string DefaultDataDir(const EnvironmentReader& getenv) {
  if (const char* state = getenv("XDG_STATE_HOME"); state != nullptr && *state == '/')
    return absl::StrCat(state, "/p2/worker");
  const char* home = getenv("HOME");
  return home == nullptr ? "" : absl::StrCat(home, "/.local/state/p2/worker");
}

}  // namespace

absl::StatusOr<AgentOptions> ParseOptions(int argc, const char* const* argv, const EnvironmentReader& getenv) {
  AgentOptions options;
  LayeredOptions layers("p2-worker", "offers this machine's devices to a p2 coordinator and runs trainers on them",
                        P2_VERSION, "P2_WORKER_");
  CLI::App& app = layers.app();
  std::vector<std::string> roots, labels;
  app.add_option("--coordinator", options.coordinator, "host:port of p2d")->capture_default_str();
  app.add_option("--name", options.name, "worker ID [the host's name]");
  app.add_option("--devices", options.devices, "cpu:N, cuda:0,1 or auto (all GPUs, else a CPU slot per 2 cores)")
      ->capture_default_str();
  app.add_option("--nvml-library", options.nvml_library,
                 "NVIDIA's management library, where the loader does not find it")
      ->capture_default_str();
  app.add_option("--root", roots, "storage root NAME=DIR; repeatable");
  app.add_option("--data-dir", options.data_dir, "spool, journal and attempts [$XDG_STATE_HOME/p2/worker]");
  app.add_option("--trainer", options.trainer, "path of p2-trainer [beside this program]");
  app.add_option("--http", options.http, "host:port of /metrics, /livez, /readyz; port 0: any; off: none")
      ->capture_default_str();
  app.add_option("--data-interface", options.data_interface,
                 "address or interface that other ranks reach this node by");
  app.add_option("--label,--labels", labels, "KEY=VALUE for node selectors; repeatable");
  app.add_option("--ready-file", options.ready_file, "written once slots are offered, with pid and port, as JSON");
  layers.AddDuration("--heartbeat-interval", options.heartbeat_interval, "longest gap between heartbeats");
  layers.AddDuration("--reconnect-max", options.reconnect_max,
                     "longest wait between attempts to reach the coordinator");
  layers.AddDuration("--welcome-timeout", options.welcome_timeout, "wait for the coordinator's first answer");
  layers.AddDuration("--connection-timeout", options.connection_timeout,
                     "a connection on which nothing is acknowledged for so long is given up");
  layers.AddDuration("--silence-timeout", options.silence_timeout,
                     "a rank without any event for this long is frozen; 0: never");
  app.add_option("--watchdog-scale", options.watchdog_scale, "factor on every deadline of a job's spec")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  layers.AddDuration("--hold-timeout", options.hold_timeout, "a prepared gang gives its slots back after this long");
  layers.AddDuration("--gang-grace", options.gang_grace, "time for other ranks to report after one failed");
  layers.AddDuration("--flush-timeout", options.flush_timeout,
                     "at the end: wait for the coordinator to take the spool");
  layers.AddDuration("--stuck-after", options.stuck_after, "/livez fails when the loop did not run for this long");
  layers.AddDuration("--log-interval", options.log_interval, "how often logs are read and the spool is synced");
  layers.AddDuration("--roots-interval", options.roots_interval, "how often the roots' ids and free space are read");
  app.add_option("--spool-limit", options.spool_limit_bytes, "bytes kept while the coordinator is away")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1} << 20, int64_t{1} << 40));
  app.add_flag("--enable-failpoints", options.enable_failpoints,
               "for tests: fail where P2_FAILPOINTS says (docs/reliability.md)");
  layers.AddLogLevel(options.log_level);
  P2_RETURN_IF_ERROR(layers.Parse(std::vector<std::string>(argv + 1, argv + argc), getenv));
  for (const std::string& text : roots) {
    P2_ASSIGN_OR_RETURN(auto root, SplitPair("--root", text));
    options.roots.push_back(std::move(root));
  }
  for (const std::string& text : labels) {
    P2_ASSIGN_OR_RETURN(auto label, SplitPair("--label", text));
    options.labels.insert(std::move(label));
  }
  if (options.name.empty()) {
    char host[256] = {};
    gethostname(host, sizeof(host) - 1);
    options.name = ResourceIdFromHost(host);
  }
  if (!IsResourceId(options.name))
    return absl::InvalidArgumentError(
        absl::StrCat("--name \"", options.name, "\" is not a worker ID; use [a-z]([a-z0-9-]{0,61}[a-z0-9])?"));
  for (size_t i = 0; i < options.roots.size(); ++i) {
    auto& [name, directory] = options.roots[i];
    if (!IsDottedId(name))
      return absl::InvalidArgumentError(
          absl::StrCat("--root name \"", name, "\" does not match [a-z0-9][a-z0-9._-]{0,62}"));
    for (size_t j = 0; j < i; ++j)
      if (options.roots[j].first == name)
        return absl::InvalidArgumentError(absl::StrCat("--root ", name, " is given twice; use each name once"));
    directory = std::filesystem::absolute(directory).lexically_normal().string();
  }
  if (options.data_dir.empty()) options.data_dir = DefaultDataDir(getenv);
  if (options.data_dir.empty())
    return absl::InvalidArgumentError("neither XDG_STATE_HOME nor HOME is set; name a directory with --data-dir");
  options.data_dir = std::filesystem::absolute(options.data_dir).lexically_normal().string();
  if (options.trainer.empty()) {
    std::error_code error;
    options.trainer = (std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "p2-trainer").string();
  }
  options.trainer = std::filesystem::absolute(options.trainer).string();
  return options;
}

}  // namespace p2::agent
