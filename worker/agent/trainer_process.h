// One p2-trainer process: its own session and process group, an event pipe, a command pipe, a log file.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "worker/agent/files.h"
#include "worker/agent/journal.h"
#include "worker/agent/loop.h"

namespace p2::agent {

struct TrainerCommandLine {
  std::string program;
  std::vector<std::string> arguments;
  // NAME=VALUE; the process sees nothing else.
  std::vector<std::string> environment;
  // Takes stdout and stderr; appended to.
  std::string log_path;
  // Listening socket that rank 0 inherits; -1: none.
  int store_fd = -1;
};

// Descriptors in the child.
inline constexpr int kEventFd = 3;
inline constexpr int kCommandFd = 4;
inline constexpr int kStoreFd = 5;

// What a trainer takes over of the agent's own environment: PATH, HOME, locale, TMPDIR, and NCCL_, GLOO_, OMP_, MKL_,
// P2_TRAINER_ variables. Never LD_*.
std::vector<std::string> InheritedEnvironment(char** environment);

// Confined to the loop's thread; so are the callbacks.
class TrainerProcess {
 public:
  struct Callbacks {
    // Bytes from the event pipe.
    std::function<void(absl::string_view)> on_bytes;
    // Once, after the last on_bytes. `exit_code`: 0 to 255, or 128 + n for signal n. May destroy this object.
    std::function<void(int exit_code)> on_exit;
  };

  static absl::StatusOr<std::unique_ptr<TrainerProcess>> Spawn(Loop& loop, const TrainerCommandLine& command,
                                                               Callbacks callbacks);
  // Kills it if it lives; no callback comes any more.
  ~TrainerProcess();
  TrainerProcess(const TrainerProcess&) = delete;
  TrainerProcess& operator=(const TrainerProcess&) = delete;

  // Writes a Stop command; a process that does not read any more is left to its deadline.
  void SendStop();
  // SIGKILL to the whole group.
  void Kill();
  const ProcessId& id() const { return id_; }

 private:
  // Lives until libuv has closed both handles.
  struct Handles;

  TrainerProcess(Callbacks callbacks, UniqueFd events, UniqueFd commands);
  void ReadEvents(size_t limit);
  void OnExit(int exit_code);

  const Callbacks callbacks_;
  UniqueFd events_;
  UniqueFd commands_;
  ProcessId id_;
  Handles* handles_ = nullptr;
};

}  // namespace p2::agent
