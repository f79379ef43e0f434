#include "common/log_line.h"

#include "nlohmann/json.hpp"

namespace p2 {

std::string FormatLogLine(absl::Time time, LogLevel level, absl::string_view component,
                          const std::map<std::string, std::string>& fields, absl::string_view message) {
  static constexpr const char* kNames[] = {"debug", "info", "warning", "error"};
  nlohmann::ordered_json line;
  line["ts"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", time, absl::UTCTimeZone());
  line["level"] = kNames[static_cast<int>(level)];
  line["component"] = std::string(component);
  for (const auto& [key, value] : fields) line[key] = value;
  line["msg"] = std::string(message);
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace p2
