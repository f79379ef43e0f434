#include "server/server_options.h"

#include <cstdlib>
#include <map>
#include <memory>
#include <sstream>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "server/rpc/rpc_server.h"
#include "yaml-cpp/yaml.h"

namespace p2::server {
namespace {

// "data-dir" -> "P2D_DATA_DIR".
std::string EnvironmentName(const std::string& option) {
  return absl::StrCat("P2D_", absl::AsciiStrToUpper(absl::StrReplaceAll(option, {{"-", "_"}})));
}

// CLI11 reads its configuration through this: a YAML map of option names without dashes (`data-dir: /var/lib/p2`).
// CLI11 itself puts the file over the environment: what the environment sets is left out here.
class YamlConfig : public CLI::Config {
 public:
  std::string to_config(const CLI::App*, bool, bool, std::string) const override { return ""; }

  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override {
    std::ostringstream text;
    text << input.rdbuf();
    std::vector<CLI::ConfigItem> items;
    try {
      const YAML::Node root = YAML::Load(text.str());
      if (root.IsNull()) return items;
      if (!root.IsMap()) throw CLI::ConversionError("the configuration must be a YAML map of options");
      for (const auto& entry : root) {
        CLI::ConfigItem item;
        item.name = absl::StrReplaceAll(entry.first.as<std::string>(), {{"_", "-"}});
        item.inputs = {entry.second.as<std::string>()};
        if (std::getenv(EnvironmentName(item.name).c_str()) == nullptr) items.push_back(std::move(item));
      }
    } catch (const YAML::Exception& error) {
      throw CLI::ConversionError(absl::StrCat("the configuration is not valid: ", error.what()));
    }
    return items;
  }
};

// `90s`, `500ms`, `2m`.
CLI::Option* AddDuration(CLI::App& app, const std::string& flag, absl::Duration& value, const std::string& help) {
  return app
      .add_option_function<std::string>(
          flag,
          [&value, flag](const std::string& text) {
            if (!absl::ParseDuration(text, &value)) {
              throw CLI::ValidationError(flag,
                                         absl::StrCat("\"", text, "\" is not a duration such as 500ms, 15s or 2m"));
            }
          },
          absl::StrCat(help, " [", absl::FormatDuration(value), "]"))
      ->type_name("DURATION");
}

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

ParsedOptions ParseServerOptions(const std::vector<std::string>& arguments) {
  ParsedOptions parsed;
  ServerOptions& options = parsed.options;
  CLI::App app("p2d: the coordinator of p2. Keeps the jobs, decides where they run, serves gRPC and /metrics.", "p2d");
  app.set_version_flag("--version", std::string("p2d ") + P2_VERSION);
  app.config_formatter(std::make_shared<YamlConfig>());
  app.set_config("--config", "", "YAML file of these options, without the dashes")->envname("P2D_CONFIG");
  app.allow_config_extras(CLI::config_extras_mode::error);
  app.add_option("--data-dir", options.data_dir, "Directory of everything that p2d keeps")->capture_default_str();
  app.add_option("--listen", options.listen, "gRPC address, HOST:PORT; port 0: any free one")->capture_default_str();
  app.add_option("--http", options.http, "HTTP address of /metrics, /livez and /readyz")->capture_default_str();
  app.add_flag("--insecure", options.insecure, "Allow addresses beyond loopback, without TLS");
  app.add_option("--ready-file", options.ready_file, "Write the addresses here, as JSON, once p2d serves");
  const std::map<std::string, LogLevel> levels = {{"debug", LogLevel::kDebug},
                                                  {"info", LogLevel::kInfo},
                                                  {"warning", LogLevel::kWarning},
                                                  {"error", LogLevel::kError}};
  app.add_option("--log-level", options.log_level, "debug, info, warning or error")
      ->transform(CLI::CheckedTransformer(levels, CLI::ignore_case).description("LEVEL"));
  AddDuration(app, "--heartbeat-interval", options.heartbeat_interval, "How often a worker must be heard of");
  AddDuration(app, "--suspect-after", options.suspect_after, "Silence after which a worker gets no new gangs");
  AddDuration(app, "--lost-after", options.lost_after, "Silence after which a worker's jobs go elsewhere");
  AddDuration(app, "--prepare-timeout", options.prepare_timeout,
              "From the reservation of a gang until all its ranks run");
  AddDuration(app, "--gang-backoff", options.gang_backoff, "First wait after a gang was not formed");
  AddDuration(app, "--delete-retry", options.delete_retry, "Wait before a failed deletion is tried again");
  AddDuration(app, "--tick-interval", options.tick_interval, "How often deadlines are looked at");
  AddDuration(app, "--disk-interval", options.disk_interval, "How often free space is looked at");
  AddDuration(app, "--shutdown-grace", options.shutdown_grace, "What calls in progress get at SIGTERM");
  for (CLI::Option* option : app.get_options()) {
    const std::string name = option->get_single_name();
    if (name == "help" || name == "version" || name == "config") continue;
    option->envname(EnvironmentName(name));
  }
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ParseError& error) {
    std::ostringstream out, err;
    parsed.exit = true;
    parsed.exit_code = app.exit(error, out, err) == 0 ? 0 : 2;
    parsed.text = out.str() + err.str();
  }
  return parsed;
}

absl::Status ValidateServerOptions(const ServerOptions& options) {
  std::vector<std::string> wrong;
  if (options.data_dir.empty()) wrong.push_back("--data-dir is empty");
  CheckAddress("--listen", options.listen, options.insecure, wrong);
  CheckAddress("--http", options.http, options.insecure, wrong);
  const std::pair<const char*, absl::Duration> positive[] = {{"--heartbeat-interval", options.heartbeat_interval},
                                                             {"--prepare-timeout", options.prepare_timeout},
                                                             {"--gang-backoff", options.gang_backoff},
                                                             {"--delete-retry", options.delete_retry},
                                                             {"--tick-interval", options.tick_interval},
                                                             {"--disk-interval", options.disk_interval}};
  for (const auto& [flag, value] : positive) {
    if (value <= absl::ZeroDuration())
      wrong.push_back(absl::StrCat(flag, " ", absl::FormatDuration(value), " must be positive"));
  }
  if (options.shutdown_grace < absl::ZeroDuration()) wrong.push_back("--shutdown-grace is negative");
  if (options.heartbeat_interval >= options.suspect_after || options.suspect_after > options.lost_after) {
    wrong.push_back(absl::StrCat("--heartbeat-interval (", absl::FormatDuration(options.heartbeat_interval),
                                 ") must be below --suspect-after (", absl::FormatDuration(options.suspect_after),
                                 "), and that at most --lost-after (", absl::FormatDuration(options.lost_after), ")"));
  }
  return wrong.empty() ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrJoin(wrong, "\n"));
}

}  // namespace p2::server
