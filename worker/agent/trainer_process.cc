#include "worker/agent/trainer_process.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "p2/trainer/v1/pipes.pb.h"
#include "worker/agent/framing.h"

namespace p2::agent {
namespace {

constexpr size_t kReadAtOnce = size_t{1} << 20;

std::vector<char*> Pointers(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

struct TrainerProcess::Handles {
  uv_process_t process;
  uv_poll_t poll;
  // Null once the owner is gone.
  TrainerProcess* owner;
  int open = 0;

  void Close() {
    const auto closed = [](uv_handle_t* handle) {
      auto* self = static_cast<Handles*>(handle->data);
      if (--self->open == 0) delete self;
    };
    owner = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&process), closed);
    uv_close(reinterpret_cast<uv_handle_t*>(&poll), closed);
  }
};

std::vector<std::string> InheritedEnvironment(char** environment) {
  static constexpr std::array kNames = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"};
  static constexpr std::array kPrefixes = {"NCCL_", "GLOO_", "OMP_", "MKL_", "P2_TRAINER_"};
  std::vector<std::string> inherited;
  for (char** entry = environment; *entry != nullptr; ++entry) {
    const absl::string_view text = *entry;
    const absl::string_view name = text.substr(0, text.find('='));
    if (std::find(kNames.begin(), kNames.end(), name) != kNames.end() ||
        std::any_of(kPrefixes.begin(), kPrefixes.end(),
                    [&](const char* prefix) { return absl::StartsWith(name, prefix); }))
      inherited.emplace_back(text);
  }
  return inherited;
}

TrainerProcess::TrainerProcess(Callbacks callbacks, UniqueFd events, UniqueFd commands)
    : callbacks_(std::move(callbacks)), events_(std::move(events)), commands_(std::move(commands)) {}

absl::StatusOr<std::unique_ptr<TrainerProcess>> TrainerProcess::Spawn(Loop& loop, const TrainerCommandLine& command,
                                                                      Callbacks callbacks) {
  int event_pipe[2], command_pipe[2];
  if (pipe2(event_pipe, O_CLOEXEC) != 0) return ErrnoError("event pipe");
  UniqueFd events(event_pipe[0]), child_events(event_pipe[1]);
  if (pipe2(command_pipe, O_CLOEXEC) != 0) return ErrnoError("command pipe");
  UniqueFd child_commands(command_pipe[0]), commands(command_pipe[1]);
  if (fcntl(events.get(), F_SETFL, O_NONBLOCK) != 0 || fcntl(commands.get(), F_SETFL, O_NONBLOCK) != 0)
    return ErrnoError("trainer pipes");
  const UniqueFd log(open(command.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log.ok()) return ErrnoError(command.log_path);

  std::vector<std::string> arguments = {command.program};
  arguments.insert(arguments.end(), command.arguments.begin(), command.arguments.end());
  std::vector<char*> argv = Pointers(arguments);
  std::vector<char*> envp = Pointers(command.environment);
  std::array<uv_stdio_container_t, kStoreFd + 1> stdio = {};
  stdio[0].flags = UV_IGNORE;
  const std::array inherited = {-1, log.get(), log.get(), child_events.get(), child_commands.get(), command.store_fd};
  for (size_t i = 1; i < stdio.size(); ++i) {
    stdio[i].flags = inherited[i] < 0 ? UV_IGNORE : UV_INHERIT_FD;
    stdio[i].data.fd = inherited[i];
  }
  uv_process_options_t options = {};
  options.file = command.program.c_str();
  options.args = argv.data();
  options.env = envp.data();
  options.flags = UV_PROCESS_DETACHED;  // A session of its own: signals reach the whole group and nothing else.
  options.stdio = stdio.data();
  options.stdio_count = static_cast<int>(stdio.size());
  options.exit_cb = [](uv_process_t* process, int64_t status, int signal) {
    auto* handles = static_cast<Handles*>(process->data);
    if (handles->owner != nullptr) handles->owner->OnExit(signal != 0 ? 128 + signal : static_cast<int>(status));
  };

  std::unique_ptr<TrainerProcess> trainer(
      new TrainerProcess(std::move(callbacks), std::move(events), std::move(commands)));
  auto* handles = new Handles;
  handles->owner = trainer.get();
  handles->open = 2;
  handles->process.data = handles;
  handles->poll.data = handles;
  uv_poll_init(loop.uv(), &handles->poll, trainer->events_.get());
  if (const int error = uv_spawn(loop.uv(), &handles->process, &options); error != 0) {
    handles->Close();
    return absl::FailedPreconditionError(absl::StrCat("cannot start ", command.program, ": ", uv_strerror(error),
                                                      "; --trainer names p2-trainer's path"));
  }
  trainer->handles_ = handles;
  trainer->id_ = ReadProcess(handles->process.pid).value_or(ProcessId{handles->process.pid, 0});
  uv_poll_start(&handles->poll, UV_READABLE, [](uv_poll_t* poll, int, int) {
    auto* self = static_cast<Handles*>(poll->data);
    if (self->owner != nullptr) self->owner->ReadEvents(kReadAtOnce);
  });
  return trainer;
}

TrainerProcess::~TrainerProcess() {
  if (handles_ == nullptr) return;
  Kill();
  handles_->Close();
}

void TrainerProcess::ReadEvents(size_t limit) {
  char buffer[65536];
  for (size_t done = 0; done < limit;) {
    const ssize_t n = read(events_.get(), buffer, sizeof(buffer));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;
    if (n == 0) {
      uv_poll_stop(&handles_->poll);
      return;
    }
    callbacks_.on_bytes(absl::string_view(buffer, static_cast<size_t>(n)));
    done += static_cast<size_t>(n);
  }
}

void TrainerProcess::OnExit(int exit_code) {
  ReadEvents(std::numeric_limits<size_t>::max());
  Kill();  // Whatever it left behind in its group.
  handles_->Close();
  handles_ = nullptr;
  const std::function<void(int)> on_exit = callbacks_.on_exit;
  on_exit(exit_code);
}

void TrainerProcess::SendStop() {
  p2::trainer::v1::TrainerCommand command;
  command.mutable_stop();
  const std::string frame = EncodeFrame(command);
  [[maybe_unused]] const ssize_t written = write(commands_.get(), frame.data(), frame.size());
}

void TrainerProcess::Kill() { kill(-id_.pid, SIGKILL); }

}  // namespace p2::agent
