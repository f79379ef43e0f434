#include "worker/agent/coordinator_session.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/rpc/grpc_status.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"

namespace p2::agent {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(100);

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& address, absl::Duration max_backoff,
                                           absl::Duration unacknowledged) {
  grpc::ChannelArguments arguments;
  const auto backoff_ms = static_cast<int>(std::max<int64_t>(100, absl::ToInt64Milliseconds(max_backoff)));
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, std::min(200, backoff_ms));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, backoff_ms);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, backoff_ms);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Heartbeats are the traffic; what is needed of keepalive is TCP_USER_TIMEOUT, which it sets to its timeout: a
  // coordinator that vanished without a word is noticed. The pings themselves stay rarer than any server forbids.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10 * 60 * 1000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(absl::ToInt64Milliseconds(unacknowledged)));
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

CoordinatorSession::CoordinatorSession(std::string address, absl::Duration max_backoff, absl::Duration unacknowledged,
                                       Callbacks callbacks)
    : address_(std::move(address)),
      max_backoff_(max_backoff),
      callbacks_(std::move(callbacks)),
      channel_(MakeChannel(address_, max_backoff_, unacknowledged)),
      thread_([this] { Run(); }) {}

CoordinatorSession::~CoordinatorSession() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    stop_bell_.Ring();
    if (context_ != nullptr) context_->TryCancel();
  }
  thread_.join();
}

void CoordinatorSession::Send(uint64_t stream, p2::v1::ConnectRequest message) {
  absl::MutexLock lock(&mutex_);
  if (stream == open_stream_) outgoing_.push_back(std::move(message));
}

void CoordinatorSession::Drop(uint64_t stream) {
  absl::MutexLock lock(&mutex_);
  if (stream == open_stream_ && context_ != nullptr) context_->TryCancel();
}

void CoordinatorSession::Welcomed() {
  absl::MutexLock lock(&mutex_);
  failures_ = 0;
}

bool CoordinatorSession::SleepUnlessStopping(absl::Duration duration) { return !stop_bell_.WaitFor(duration); }

void CoordinatorSession::Run() {
  std::mt19937_64 random{std::random_device{}()};
  for (uint64_t number = 1;; ++number) {
    // In slices, so that a stop is not held up; wait_for_ready has no stop.
    while (!channel_->WaitForConnected(std::chrono::system_clock::now() + std::chrono::milliseconds(100)))
      if (!SleepUnlessStopping(absl::ZeroDuration())) return;
    absl::Status why = RunStream(number);
    double exponent;
    {
      absl::MutexLock lock(&mutex_);
      if (stopping_) return;
      exponent = std::min(failures_++, 20);
    }
    callbacks_.on_closed(number, std::move(why));
    const absl::Duration backoff = std::min(max_backoff_, kFirstBackoff * std::exp2(exponent));
    if (!SleepUnlessStopping(backoff * std::uniform_real_distribution<>(0.5, 1.0)(random))) return;
  }
}

absl::Status CoordinatorSession::RunStream(uint64_t number) {
  grpc::ClientContext context;
  const auto stub = p2::v1::WorkerService::NewStub(channel_);
  const auto stream = stub->Connect(&context);
  {
    absl::MutexLock lock(&mutex_);
    if (stopping_) context.TryCancel();
    context_ = &context;
    open_stream_ = number;
    outgoing_.clear();
  }
  std::thread writer([this, number, &stream, &context] {
    while (true) {
      p2::v1::ConnectRequest message;
      {
        absl::MutexLock lock(&mutex_);
        const auto ready = [this, number]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
          return open_stream_ != number || !outgoing_.empty();
        };
        mutex_.Await(absl::Condition(&ready));
        if (open_stream_ != number) return;
        message = std::move(outgoing_.front());
        outgoing_.pop_front();
      }
      if (!stream->Write(message)) return context.TryCancel();
    }
  });
  callbacks_.on_open(number);
  for (p2::v1::ConnectResponse message; stream->Read(&message);) callbacks_.on_message(number, std::move(message));
  {
    absl::MutexLock lock(&mutex_);
    open_stream_ = 0;
    context_ = nullptr;
  }
  context.TryCancel();  // A write that waits for room ends.
  writer.join();
  const grpc::Status status = stream->Finish();
  return status.ok() ? absl::UnavailableError("the coordinator ended the stream") : FromGrpcStatus(status);
}

}  // namespace p2::agent
