#include "tests/client/p2ctl/p2ctl_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace p2::testing {

std::string MakeTempDir() {
  std::string path = ::testing::TempDir() + "/p2ctl.XXXXXX";
  return mkdtemp(path.data());
}

P2ctlProcess::P2ctlProcess(std::vector<std::string> arguments, std::map<std::string, std::string> environment,
                           std::string program) {
  if (program.empty()) program = std::string(P2_BIN_DIR) + "/p2ctl";
  const std::string home = MakeTempDir();
  environment.insert({{"HOME", home},
                      {"XDG_STATE_HOME", home + "/state"},
                      {"XDG_DATA_HOME", home + "/data"},
                      {"TZ", "UTC"},
                      {"PATH", std::getenv("PATH")},
                      {"TERM", "xterm"}});
  arguments.insert(arguments.begin(), program);
  std::vector<std::string> variables;
  for (const auto& [key, value] : environment) variables.push_back(key + "=" + value);
  std::vector<char*> argv, envp;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  for (std::string& variable : variables) envp.push_back(variable.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) std::abort();
  pid_ = fork();
  if (pid_ == 0) {
    dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    execve(program.c_str(), argv.data(), envp.data());
    _exit(127);
  }
  close(out[1]);
  close(err[1]);
  out_fd_ = out[0];
  err_fd_ = err[0];
}

P2ctlProcess::~P2ctlProcess() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  close(out_fd_);
  close(err_fd_);
}

void P2ctlProcess::Signal(int signal_number) const { kill(pid_, signal_number); }

bool P2ctlProcess::ReadSome() {
  if (out_fd_ < 0 && err_fd_ < 0) return false;
  pollfd fds[2] = {{out_fd_, POLLIN, 0}, {err_fd_, POLLIN, 0}};
  poll(fds, 2, -1);
  bool open = false;
  for (const auto& [fd, text] : {std::pair{fds[0], &result_.out}, {fds[1], &result_.err}}) {
    if (fd.revents == 0) {
      open = open || fd.fd >= 0;
      continue;
    }
    char buffer[4096];
    const ssize_t got = read(fd.fd, buffer, sizeof(buffer));
    if (got > 0) {
      text->append(buffer, static_cast<size_t>(got));
      open = true;
    } else {
      int& closed = fd.fd == out_fd_ ? out_fd_ : err_fd_;
      close(closed);
      closed = -1;
    }
  }
  return open;
}

bool P2ctlProcess::ReadUntil(const std::string& text, bool from_stderr) {
  const std::string& where = from_stderr ? result_.err : result_.out;
  while (where.find(text) == std::string::npos) {
    if (!ReadSome()) return false;
  }
  return true;
}

P2ctlResult P2ctlProcess::Wait() {
  while (ReadSome()) {
  }
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  result_.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return result_;
}

P2ctlResult RunP2ctl(std::vector<std::string> arguments, std::map<std::string, std::string> environment) {
  return P2ctlProcess(std::move(arguments), std::move(environment)).Wait();
}

}  // namespace p2::testing
