#include "worker/agent/options.h"

#include <unistd.h>

#include <filesystem>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/resource_name.h"
#include "common/status_macros.h"
#include "worker/agent/files.h"
#include "yaml-cpp/yaml.h"

namespace p2::agent {
namespace {

std::pair<std::string, std::string> SplitPair(const std::string& flag, const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    throw CLI::ValidationError(flag, absl::StrCat("\"", text, "\" is not NAME=VALUE"));
  return {text.substr(0, equals), text.substr(equals + 1)};
}

// The command line's shape, bound to the fields of `options`.
class Parser {
 public:
  explicit Parser(AgentOptions& options) : options_(options) {
    app_.add_option("--config", config_, "YAML file with any of these options (configs/worker.yaml shows all)");
    app_.add_option("--coordinator", options.coordinator, "host:port of p2d")->capture_default_str();
    app_.add_option("--name", options.name, "worker ID [the host's name]");
    app_.add_option("--devices", options.devices, "cpu:N, cuda:0,1 or auto (all GPUs, else a CPU slot per 2 cores)")
        ->capture_default_str();
    app_.add_option("--root", roots_, "storage root NAME=DIR; repeatable");
    app_.add_option("--data-dir", options.data_dir, "spool, journal and attempts [$XDG_STATE_HOME/p2/worker]");
    app_.add_option("--trainer", options.trainer, "path of p2-trainer [beside this program]");
    app_.add_option("--http", options.http, "host:port of /metrics, /livez, /readyz; port 0: any; off: none")
        ->capture_default_str();
    app_.add_option("--data-interface", options.data_interface,
                    "address or interface that other ranks reach this node by");
    app_.add_option("--label,--labels", labels_, "KEY=VALUE for node selectors; repeatable");
    app_.add_option("--ready-file", options.ready_file, "written once slots are offered, with pid and port, as JSON");
    Duration("--heartbeat-interval", options.heartbeat_interval, "longest gap between heartbeats");
    Duration("--reconnect-max", options.reconnect_max, "longest wait between attempts to reach the coordinator");
    Duration("--welcome-timeout", options.welcome_timeout, "wait for the coordinator's first answer");
    Duration("--silence-timeout", options.silence_timeout,
             "a rank without any event for this long is frozen; 0: never");
    app_.add_option("--watchdog-scale", options.watchdog_scale, "factor on every deadline of a job's spec")
        ->capture_default_str()
        ->check(CLI::PositiveNumber);
    Duration("--hold-timeout", options.hold_timeout, "a prepared gang gives its slots back after this long");
    Duration("--gang-grace", options.gang_grace, "time for other ranks to report after one failed");
    Duration("--flush-timeout", options.flush_timeout, "at the end: wait for the coordinator to take the spool");
    Duration("--log-interval", options.log_interval, "how often logs are read and the spool is synced");
    Duration("--roots-interval", options.roots_interval, "how often the roots' ids and free space are read");
    app_.add_option("--spool-limit", options.spool_limit_bytes, "bytes kept while the coordinator is away")
        ->capture_default_str()
        ->check(CLI::Range(int64_t{1} << 20, int64_t{1} << 40));
    app_.add_option("--log-level", log_level_, "debug, info, warning or error")
        ->capture_default_str()
        ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  }

  absl::Status Parse(int argc, const char* const* argv, const EnvironmentReader& getenv) {
    try {
      app_.parse(argc, argv);
      absl::Status filled = FillFromEnvironment(getenv);
      if (filled.ok() && !config_.empty()) filled = FillFromFile();
      P2_RETURN_IF_ERROR(filled);
      for (const std::string& text : roots_) options_.roots.push_back(SplitPair("--root", text));
      for (const std::string& text : labels_) options_.labels.insert(SplitPair("--label", text));
    } catch (const CLI::CallForHelp&) {
      return absl::CancelledError(app_.help());
    } catch (const CLI::ParseError& error) {
      return absl::InvalidArgumentError(absl::StrCat(error.what(), "; `p2-worker --help` shows the options"));
    }
    static const std::map<std::string, LogLevel> kLevels = {{"debug", LogLevel::kDebug},
                                                            {"info", LogLevel::kInfo},
                                                            {"warning", LogLevel::kWarning},
                                                            {"error", LogLevel::kError}};
    options_.log_level = kLevels.at(log_level_);
    return absl::OkStatus();
  }

 private:
  void Duration(const std::string& flag, absl::Duration& field, const std::string& help) {
    app_.add_option_function<std::string>(
            flag,
            [&field, flag](const std::string& text) {
              if (!absl::ParseDuration(text, &field) || field < absl::ZeroDuration())
                throw CLI::ValidationError(flag,
                                           absl::StrCat("\"", text, "\" is not a duration such as 500ms, 10s or 2m"));
            },
            absl::StrCat(help, " [", absl::FormatDuration(field), "]"))
        ->type_name("DURATION");
  }

  // Gives an option that the command line left out the values of a lower layer.
  static void Fill(CLI::Option& option, const std::vector<std::string>& values) {
    for (const std::string& value : values) option.add_result(value);
    option.run_callback();
  }

  absl::Status FillFromEnvironment(const EnvironmentReader& getenv) {
    for (CLI::Option* option : app_.get_options([](const CLI::Option* o) { return o->get_single_name() != "help"; })) {
      const std::string variable = absl::StrCat(
          "P2_WORKER_", absl::AsciiStrToUpper(absl::StrReplaceAll(option->get_single_name(), {{"-", "_"}})));
      const char* value = getenv(variable.c_str());
      if (value == nullptr || option->count() > 0) continue;
      const bool list = option->get_items_expected_max() > 1;
      try {
        Fill(*option, list ? std::vector<std::string>(absl::StrSplit(value, ',')) : std::vector<std::string>{value});
      } catch (const CLI::ParseError& error) {
        return absl::InvalidArgumentError(absl::StrCat("environment ", variable, "=\"", value, "\": ", error.what()));
      }
    }
    return absl::OkStatus();
  }

  // One flat map; keys are the flags' names with '_' or '-'. Lists and maps of NAME: VALUE serve `root` and `label`.
  absl::Status FillFromFile() {
    YAML::Node file;
    try {
      file = YAML::LoadFile(config_);
    } catch (const YAML::Exception& error) {
      return absl::InvalidArgumentError(absl::StrCat("--config ", config_, ": ", error.what()));
    }
    if (file.IsNull()) return absl::OkStatus();
    if (!file.IsMap()) return absl::InvalidArgumentError(absl::StrCat("--config ", config_, ": not a map of options"));
    for (const auto& entry : file) {
      const std::string where = absl::StrCat(config_, ":", entry.first.Mark().line + 1, ": ");
      const std::string flag = absl::StrCat("--", absl::StrReplaceAll(entry.first.as<std::string>(), {{"_", "-"}}));
      CLI::Option* option = app_.get_option_no_throw(flag);
      if (option == nullptr || flag == "--config" || flag == "--help")
        return absl::InvalidArgumentError(absl::StrCat(where, "unknown option \"", entry.first.as<std::string>(),
                                                       "\"; `p2-worker --help` shows the options"));
      if (option->count() > 0) continue;
      std::vector<std::string> values;
      if (entry.second.IsMap()) {
        for (const auto& item : entry.second)
          values.push_back(absl::StrCat(item.first.as<std::string>(), "=", item.second.as<std::string>()));
      } else if (entry.second.IsSequence()) {
        for (const auto& item : entry.second) values.push_back(item.as<std::string>());
      } else if (entry.second.IsScalar()) {
        values.push_back(entry.second.as<std::string>());
      }
      if (values.empty()) continue;
      try {
        Fill(*option, values);
      } catch (const CLI::ParseError& error) {
        return absl::InvalidArgumentError(absl::StrCat(where, error.what()));
      }
    }
    return absl::OkStatus();
  }

  AgentOptions& options_;
  CLI::App app_{"p2-worker: offers this machine's devices to a p2 coordinator and runs trainers on them", "p2-worker"};
  std::string config_;
  std::string log_level_ = "info";
  std::vector<std::string> roots_;
  std::vector<std::string> labels_;
};

std::string DefaultDataDir(const EnvironmentReader& getenv) {
  if (const char* state = getenv("XDG_STATE_HOME"); state != nullptr && *state == '/')
    return absl::StrCat(state, "/p2/worker");
  const char* home = getenv("HOME");
  return home == nullptr ? "" : absl::StrCat(home, "/.local/state/p2/worker");
}

}  // namespace

absl::StatusOr<AgentOptions> ParseOptions(int argc, const char* const* argv, const EnvironmentReader& getenv) {
  AgentOptions options;
  Parser parser(options);
  P2_RETURN_IF_ERROR(parser.Parse(argc, argv, getenv));
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
