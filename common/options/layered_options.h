// A daemon's options from four layers: flags, over the environment, over a YAML file (--config), over the defaults.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/logging.h"

namespace p2 {

// Reads a variable of the environment; null if unset.
using EnvironmentReader = std::function<const char*(const char*)>;

// Declare options on app() and by the functions below, then Parse() once. What they are bound to must outlive it.
class LayeredOptions {
 public:
  // `environment_prefix`: "P2D_" makes --data-dir's variable P2D_DATA_DIR; a list is separated by commas there.
  LayeredOptions(const std::string& program, const std::string& description, const std::string& version,
                 std::string environment_prefix);

  CLI::App& app() { return app_; }
  // `500ms`, `15s`, `2m`; not negative.
  void AddDuration(const std::string& flag, absl::Duration& value, const std::string& help);
  void AddLogLevel(LogLevel& level);

  // CANCELLED with the text to print for --help and --version. INVALID_ARGUMENT names the flag, the variable or the
  // line of the file, its value, and what would be right.
  // The file is one flat map; keys are the flags' names with '_' or '-'. Lists and maps of NAME: VALUE serve options
  // that may be repeated.
  absl::Status Parse(const std::vector<std::string>& arguments, const EnvironmentReader& getenv);

 private:
  absl::Status FillFromEnvironment(const EnvironmentReader& getenv);
  absl::Status FillFromFile();

  const std::string program_;
  const std::string environment_prefix_;
  CLI::App app_;
  std::string config_;
};

}  // namespace p2
