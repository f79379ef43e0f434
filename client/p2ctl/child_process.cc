#include "client/p2ctl/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace p2::ctl {
namespace {

constexpr int kExecFailed = 127;

// Between fork and exec: only what a signal handler may call.
[[noreturn]] void Become(const char* program, char* const* argv, int log_fd, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != parent) _exit(kExecFailed);
  const int null_fd = open("/dev/null", O_RDONLY);
  dup2(null_fd, STDIN_FILENO);
  dup2(log_fd, STDOUT_FILENO);
  dup2(log_fd, STDERR_FILENO);
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  execv(program, argv);
  _exit(kExecFailed);
}

}  // namespace

ChildProcess::~ChildProcess() {
  if (!Running()) return;
  Signal(SIGKILL);
  waitpid(pid_, nullptr, 0);
}

absl::Status ChildProcess::Start(std::vector<std::string> argv, absl::Time now) {
  argv_ = std::move(argv);
  if (access(argv_[0].c_str(), X_OK) != 0) {
    return absl::NotFoundError(absl::StrCat("no program ", argv_[0], "; p2d and p2-worker must lie beside p2ctl"));
  }
  return Spawn(now);
}

absl::Status ChildProcess::Spawn(absl::Time now) {
  const int log_fd = open(log_path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log_fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", log_path_));
  std::vector<char*> argv;
  for (std::string& argument : argv_) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) Become(argv[0], argv.data(), log_fd, parent);
  const int error = errno;
  close(log_fd);
  if (pid < 0) return absl::ErrnoToStatus(error, absl::StrCat("cannot start ", name_));
  pid_ = pid;
  started_ = now;
  restart_at_.reset();
  how_it_ended_.clear();
  exit_code_ = -1;
  return absl::OkStatus();
}

bool ChildProcess::Running() {
  if (pid_ <= 0) return false;
  int status = 0;
  const pid_t ended = waitpid(pid_, &status, WNOHANG);
  if (ended == 0 || (ended < 0 && errno == EINTR)) return true;
  exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  how_it_ended_ =
      WIFSIGNALED(status) ? absl::StrCat("signal ", WTERMSIG(status)) : absl::StrCat("exit code ", WEXITSTATUS(status));
  pid_ = -1;
  return false;
}

void ChildProcess::RestartIfDead(absl::Time now) {
  if (Running()) return;
  if (!restart_at_.has_value()) {
    if (now - started_ >= well_after_) backoff_.Reset();
    restart_at_ = now + backoff_.Next();
  }
  // A start that fails is tried again after the next wait.
  if (now >= *restart_at_ && !Spawn(now).ok()) restart_at_ = now + backoff_.Next();
}

void ChildProcess::Signal(int signal_number) const {
  if (pid_ > 0) kill(pid_, signal_number);
}

bool ChildProcess::WaitForEnd(absl::Time deadline) {
  while (Running()) {
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(20));
  }
  return true;
}

}  // namespace p2::ctl
