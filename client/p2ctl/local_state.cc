#include "client/p2ctl/local_state.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace p2::ctl {
namespace {

using Json = nlohmann::ordered_json;

}  // namespace

std::string LocalStatePath() {
  const char* state_home = std::getenv("XDG_STATE_HOME");
  if (state_home != nullptr && state_home[0] == '/') return absl::StrCat(state_home, "/p2/local.json");
  const char* home = std::getenv("HOME");
  return absl::StrCat(home != nullptr ? home : "/tmp", "/.local/state/p2/local.json");
}

std::string ProcessStarted(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/stat"));
  std::string stat((std::istreambuf_iterator<char>(file)), {});
  // The name, in parentheses, may hold spaces; field 3 follows it.
  const size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) return "";
  const std::vector<std::string> fields = absl::StrSplit(stat.substr(name_end + 1), ' ', absl::SkipEmpty());
  constexpr size_t kStartTime = 22 - 3;
  const bool zombie = !fields.empty() && fields[0] == "Z";
  return zombie || fields.size() <= kStartTime ? "" : fields[kStartTime];
}

absl::StatusOr<std::optional<LocalState>> ReadLocalState(const std::string& path) {
  std::ifstream file(path);
  if (!file) return std::nullopt;
  const Json json = Json::parse(file, nullptr, /*allow_exceptions=*/false);
  LocalState state;
  try {
    state.pid = json.at("pid");
    state.process_started = json.at("processStarted");
    state.address = json.at("address");
    state.http_address = json.at("httpAddress");
    state.worker_http_address = json.at("workerHttpAddress");
    state.server_pid = json.at("serverPid");
    state.worker_pid = json.at("workerPid");
    state.data_dir = json.at("dataDir");
    for (const Json& root : json.at("roots")) state.roots.push_back({root.at("name"), root.at("id"), root.at("path")});
  } catch (const Json::exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is damaged (", e.what(), "); remove it"));
  }
  if (ProcessStarted(state.pid) != state.process_started) return std::nullopt;
  return state;
}

absl::Status WriteLocalState(const LocalState& state, const std::string& path) {
  Json json;
  json["pid"] = state.pid;
  json["processStarted"] = state.process_started;
  json["address"] = state.address;
  json["httpAddress"] = state.http_address;
  json["workerHttpAddress"] = state.worker_http_address;
  json["serverPid"] = state.server_pid;
  json["workerPid"] = state.worker_pid;
  json["dataDir"] = state.data_dir;
  json["roots"] = Json::array();
  for (const LocalRoot& root : state.roots) {
    json["roots"].push_back({{"name", root.name}, {"id", root.id}, {"path", root.path}});
  }
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  const std::string temporary = absl::StrCat(path, ".", getpid());
  {
    std::ofstream file(temporary);
    file << json.dump(2) << "\n";
    if (!file.flush()) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  }
  if (std::rename(temporary.c_str(), path.c_str()) != 0)
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  return absl::OkStatus();
}

}  // namespace p2::ctl
