#include "server/coordinator/worker_sessions.h"

#include <utility>

namespace p2::coordinator {
namespace {

constexpr int kMessagesAhead = 256;  // Of one worker, waiting for the loop.

}  // namespace

absl::StatusOr<std::optional<p2::v1::ConnectResponse>> WorkerSession::Next() {
  absl::MutexLock lock(&mutex_);
  if (closed_.has_value()) return *closed_;
  if (outgoing_.empty()) return std::optional<p2::v1::ConnectResponse>();
  std::optional<p2::v1::ConnectResponse> message = std::move(outgoing_.front());
  outgoing_.pop_front();
  return message;
}

// Handlers are called unlocked: they come back for what there is.

void WorkerSession::Attach(std::function<void()> ready, std::function<void()> room) {
  std::function<void()> call;
  {
    absl::MutexLock lock(&mutex_);
    ready_ = std::move(ready);
    room_ = std::move(room);
    if (!outgoing_.empty() || closed_.has_value()) call = ready_;
  }
  if (call) call();
}

void WorkerSession::Send(p2::v1::ConnectResponse message) {
  std::function<void()> call;
  {
    absl::MutexLock lock(&mutex_);
    if (closed_.has_value()) return;
    outgoing_.push_back(std::move(message));
    if (outgoing_.size() == 1) call = ready_;
  }
  if (call) call();
}

void WorkerSession::Close(absl::Status status) {
  std::function<void()> call;
  {
    absl::MutexLock lock(&mutex_);
    if (closed_.has_value()) return;
    closed_ = std::move(status);
    call = ready_;
  }
  if (call) call();
}

absl::Status WorkerSession::status() const {
  absl::MutexLock lock(&mutex_);
  return closed_.value_or(absl::OkStatus());
}

bool WorkerSession::TakeUp() {
  absl::MutexLock lock(&mutex_);
  held_up_ = ++waiting_ >= kMessagesAhead;
  return !held_up_;
}

void WorkerSession::MessageTaken() {
  std::function<void()> call;
  {
    absl::MutexLock lock(&mutex_);
    --waiting_;
    if (held_up_ && waiting_ <= kMessagesAhead / 2) {
      held_up_ = false;
      call = room_;
    }
  }
  if (call) call();
}

}  // namespace p2::coordinator
