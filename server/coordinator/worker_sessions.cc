#include "server/coordinator/worker_sessions.h"

#include <utility>

namespace p2::coordinator {

absl::StatusOr<std::optional<p2::v1::ConnectResponse>> WorkerSession::Next(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  auto ready = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !outgoing_.empty() || closed_.has_value(); };
  mutex_.AwaitWithTimeout(absl::Condition(&ready), timeout);
  if (closed_.has_value()) return *closed_;
  if (outgoing_.empty()) return std::optional<p2::v1::ConnectResponse>();
  std::optional<p2::v1::ConnectResponse> message = std::move(outgoing_.front());
  outgoing_.pop_front();
  return message;
}

void WorkerSession::Send(p2::v1::ConnectResponse message) {
  absl::MutexLock lock(&mutex_);
  if (!closed_.has_value()) outgoing_.push_back(std::move(message));
}

void WorkerSession::Close(absl::Status status) {
  absl::MutexLock lock(&mutex_);
  if (!closed_.has_value()) closed_ = std::move(status);
}

absl::Status WorkerSession::status() const {
  absl::MutexLock lock(&mutex_);
  return closed_.value_or(absl::OkStatus());
}

absl::Status WorkerSession::AwaitRoom(int limit) {
  absl::MutexLock lock(&mutex_);
  auto room = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return waiting_ < limit || closed_.has_value(); };
  mutex_.Await(absl::Condition(&room));
  if (closed_.has_value()) return *closed_;
  ++waiting_;
  return absl::OkStatus();
}

void WorkerSession::MessageTaken() {
  absl::MutexLock lock(&mutex_);
  --waiting_;
}

}  // namespace p2::coordinator
