#include "client/p2ctl/interrupt.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace p2::ctl {
namespace {

// The only thing that a signal handler may touch.
volatile int g_signal_fd = -1;

void HandleSignal(int signal_number) {
  const int saved_errno = errno;
  const char byte = static_cast<char>(signal_number);
  [[maybe_unused]] const ssize_t written = write(g_signal_fd, &byte, 1);
  errno = saved_errno;
}

void Install(void (*handler)(int), int flags) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace

Interrupt::Interrupt(int taken) : taken_(taken) {
  if (pipe2(pipe_, O_CLOEXEC) == 0) g_signal_fd = pipe_[1];
  Install(HandleSignal, SA_RESTART);
  thread_ = std::thread([this] { Run(); });
}

Interrupt::~Interrupt() {
  Install(SIG_DFL, 0);
  const char end = 0;
  [[maybe_unused]] const ssize_t written = write(pipe_[1], &end, 1);
  thread_.join();
  close(pipe_[0]);
  close(pipe_[1]);
}

void Interrupt::OnRaise(std::function<void()> callback) {
  absl::MutexLock lock(&mutex_);
  callback_ = std::move(callback);
  if (raised() && callback_) callback_();
}

void Interrupt::Run() {
  while (true) {
    char byte = 0;
    const ssize_t got = read(pipe_[0], &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || byte == 0) return;
    if (count_ + 1 == taken_) Install(SIG_DFL, 0);
    if (count_ == 0) signal_number_ = byte;
    if (++count_ > 1) continue;
    absl::MutexLock lock(&mutex_);
    raised_.Notify();
    if (callback_) callback_();
  }
}

}  // namespace p2::ctl
