#include "worker/trainer/event_pipe.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/logging.h"

namespace p2::trainer {
namespace {

// Worth an fsync: whoever reads the log after a power cut must find them.
bool MustLast(const Event& event) {
  return std::holds_alternative<CheckpointSaved>(event) || std::holds_alternative<Finished>(event);
}

}  // namespace

EventPipe::EventPipe(int fd, const std::string& log_path, EventEncoder encode, absl::Duration flush_timeout)
    : encode_(std::move(encode)), flush_timeout_(flush_timeout), fd_(fd) {
  if (fd_ >= 0) ::fcntl(fd_, F_SETFL, ::fcntl(fd_, F_GETFL) | O_NONBLOCK);
  if (log_path.empty()) return;
  log_fd_ = ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (log_fd_ < 0) {
    P2_LOG(kWarning) << "cannot open the event log " << log_path << ": " << std::strerror(errno);
  }
}

EventPipe::~EventPipe() {
  absl::MutexLock lock(&mutex_);
  const absl::Time deadline = Clock::Real().Monotonic() + flush_timeout_;
  for (Flush(); fd_ >= 0 && !backlog_.empty(); Flush()) {
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline - Clock::Real().Monotonic());
    if (left_ms <= 0) break;
    pollfd writable{fd_, POLLOUT, 0};
    ::poll(&writable, 1, static_cast<int>(left_ms));
  }
  if (log_fd_ >= 0) ::close(log_fd_);
}

void EventPipe::Emit(const Event& event) {
  absl::MutexLock lock(&mutex_);
  Flush();
  if (!backlog_.empty() && std::holds_alternative<Progress>(event)) return;
  const std::string frame = encode_(++sequence_, absl::ToUnixNanos(absl::Now()), event);
  if (log_fd_ >= 0) {
    if (::write(log_fd_, frame.data(), frame.size()) != static_cast<ssize_t>(frame.size())) {
      P2_LOG(kWarning) << "the event log takes no more: " << std::strerror(errno);
      ::close(std::exchange(log_fd_, -1));
    } else if (MustLast(event)) {
      ::fdatasync(log_fd_);
    }
  }
  if (fd_ >= 0) backlog_ += frame;
  Flush();
}

void EventPipe::Flush() {
  while (fd_ >= 0 && !backlog_.empty()) {
    const ssize_t written = ::write(fd_, backlog_.data(), backlog_.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) return;
    if (written < 0) {  // The agent is gone.
      fd_ = -1;
      backlog_.clear();
      return;
    }
    backlog_.erase(0, static_cast<size_t>(written));
  }
}

}  // namespace p2::trainer
