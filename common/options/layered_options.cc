#include "common/options/layered_options.h"

#include <exception>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/status_macros.h"
#include "yaml-cpp/yaml.h"

namespace p2 {
namespace {

// What no lower layer may set.
bool IsFlagOnly(const std::string& name) {
  return name == "help" || name == "version" || name == "config" || name == "enable-failpoints";
}

// Gives an option that the higher layers left out the values of a lower one.
void Fill(CLI::Option& option, const std::vector<std::string>& values) {
  for (const std::string& value : values) option.add_result(value);
  option.run_callback();
}

std::vector<std::string> ValuesOf(const YAML::Node& node) {
  std::vector<std::string> values;
  if (node.IsMap()) {
    for (const auto& item : node) {
      values.push_back(absl::StrCat(item.first.as<std::string>(), "=", item.second.as<std::string>()));
    }
  } else if (node.IsSequence()) {
    for (const auto& item : node) values.push_back(item.as<std::string>());
  } else if (node.IsScalar()) {
    values.push_back(node.as<std::string>());
  }
  return values;
}

}  // namespace

LayeredOptions::LayeredOptions(const std::string& program, const std::string& description, const std::string& version,
                               std::string environment_prefix)
    : program_(program),
      environment_prefix_(std::move(environment_prefix)),
      app_(absl::StrCat(program, ": ", description), program) {
  app_.set_version_flag("--version", absl::StrCat(program, " ", version));
  app_.add_option("--config", config_, "YAML file with any of these options, without their dashes")->type_name("FILE");
  app_.footer(absl::StrCat("Flags go before the environment (", environment_prefix_,
                           "LOG_LEVEL=debug), that before --config."));
}

void LayeredOptions::AddDuration(const std::string& flag, absl::Duration& value, const std::string& help) {
  app_.add_option_function<std::string>(
          flag,
          [&value, flag](const std::string& text) {
            absl::Duration parsed;
            if (!absl::ParseDuration(text, &parsed) || parsed < absl::ZeroDuration()) {
              throw CLI::ValidationError(flag,
                                         absl::StrCat("\"", text, "\" is not a duration such as 500ms, 15s or 2m"));
            }
            value = parsed;
          },
          absl::StrCat(help, " [", absl::FormatDuration(value), "]"))
      ->type_name("DURATION");
}

void LayeredOptions::AddLogLevel(LogLevel& level) {
  app_.add_option_function<std::string>(
          "--log-level",
          [&level](const std::string& text) {
            static constexpr std::pair<const char*, LogLevel> kLevels[] = {{"debug", LogLevel::kDebug},
                                                                           {"info", LogLevel::kInfo},
                                                                           {"warning", LogLevel::kWarning},
                                                                           {"error", LogLevel::kError}};
            for (const auto& [name, value] : kLevels) {
              if (!absl::EqualsIgnoreCase(text, name)) continue;
              level = value;
              return;
            }
            throw CLI::ValidationError("--log-level",
                                       absl::StrCat("\"", text, "\" is none of debug, info, warning and error"));
          },
          "debug, info, warning or error")
      ->type_name("LEVEL");
}

absl::Status LayeredOptions::Parse(const std::vector<std::string>& arguments, const EnvironmentReader& getenv) {
  try {
    app_.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    P2_RETURN_IF_ERROR(FillFromEnvironment(getenv));
    return config_.empty() ? absl::OkStatus() : FillFromFile();
  } catch (const CLI::CallForHelp&) {
    return absl::CancelledError(app_.help());
  } catch (const CLI::CallForVersion& version) {
    return absl::CancelledError(absl::StrCat(version.what(), "\n"));
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(absl::StrCat(error.what(), "; `", program_, " --help` shows the options"));
  }
}

absl::Status LayeredOptions::FillFromEnvironment(const EnvironmentReader& getenv) {
  for (CLI::Option* option : app_.get_options()) {
    const std::string name = option->get_single_name();
    if (option->count() > 0 || (IsFlagOnly(name) && name != "config")) continue;
    const std::string variable =
        absl::StrCat(environment_prefix_, absl::AsciiStrToUpper(absl::StrReplaceAll(name, {{"-", "_"}})));
    const char* const value = getenv(variable.c_str());
    if (value == nullptr) continue;
    const bool list = option->get_items_expected_max() > 1;
    try {
      Fill(*option, list ? std::vector<std::string>(absl::StrSplit(value, ',')) : std::vector<std::string>{value});
    } catch (const CLI::ParseError& error) {
      return absl::InvalidArgumentError(absl::StrCat("environment ", variable, "=\"", value, "\": ", error.what()));
    }
  }
  return absl::OkStatus();
}

absl::Status LayeredOptions::FillFromFile() {
  std::string where = absl::StrCat("--config ", config_, ": ");
  try {
    const YAML::Node file = YAML::LoadFile(config_);
    if (file.IsNull()) return absl::OkStatus();
    if (!file.IsMap()) return absl::InvalidArgumentError(absl::StrCat(where, "not a map of options"));
    for (const auto& entry : file) {
      where = absl::StrCat(config_, ":", entry.first.Mark().line + 1, ": ");
      const std::string key = entry.first.as<std::string>();
      const std::string name = absl::StrReplaceAll(key, {{"_", "-"}});
      CLI::Option* const option = app_.get_option_no_throw(absl::StrCat("--", name));
      if (option == nullptr || IsFlagOnly(name)) {
        return absl::InvalidArgumentError(
            absl::StrCat(where, "unknown option \"", key, "\"; `", program_, " --help` shows the options"));
      }
      const std::vector<std::string> values = ValuesOf(entry.second);
      if (option->count() == 0 && !values.empty()) Fill(*option, values);
    }
  } catch (const std::exception& error) {  // yaml-cpp's, CLI11's, and the stream's when FILE is a directory.
    return absl::InvalidArgumentError(absl::StrCat(where, error.what()));
  }
  return absl::OkStatus();
}

}  // namespace p2
