// A server's stream that is taken up again where it broke.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "client/retry_policy.h"
#include "common/rpc/grpc_status.h"
#include "p2/client.h"

namespace p2::client {

// `Wire` is what the RPC streams, `Message` what the caller sees. Thread-safe as Stream says.
template <typename Request, typename Wire, typename Message = Wire>
class WatchReader : public Stream<Message> {
 public:
  // What is particular to one RPC. Called by the thread in Next() only.
  struct Protocol {
    std::function<std::unique_ptr<grpc::ClientReader<Wire>>(grpc::ClientContext*, const Request&)> open;
    // Moves `request` past `wire`; what the caller shall see, or nullopt to keep it inside.
    std::function<std::optional<Message>(Wire wire, Request& request)> accept;
    // Makes the request good again after an error other than a lost connection; false: the error is final.
    std::function<bool(const absl::Status& error, Request& request)> repair = [](const absl::Status&, Request&) {
      return false;
    };
    // The server never ends this stream well: an end is a lost connection.
    bool endless = false;
  };

  WatchReader(const ClientOptions& options, Request request, Protocol protocol)
      : reconnect_for_(options.reconnect_for),
        protocol_(std::move(protocol)),
        request_(std::move(request)),
        backoff_(options.initial_backoff, options.max_backoff) {}
  ~WatchReader() override {
    Cancel();
    CloseReader().IgnoreError();
  }

  absl::StatusOr<std::optional<Message>> Next() override {
    absl::Time last_contact = absl::Now();
    while (!cancelled_.HasBeenNotified()) {
      if (finished_) return *finished_;
      if (reader_ == nullptr) Open();
      if (Wire wire; reader_->Read(&wire)) {
        backoff_.Reset();
        last_contact = absl::Now();
        if (std::optional<Message> message = protocol_.accept(std::move(wire), request_)) return message;
        continue;
      }
      const absl::Status status = CloseReader();
      if (cancelled_.HasBeenNotified()) break;
      if (status.ok() && !protocol_.endless) {
        finished_ = absl::StatusOr<std::optional<Message>>(std::optional<Message>());
      } else if (status.ok() || IsConnectionLost(status) || absl::IsCancelled(status)) {
        if (absl::Now() - last_contact > reconnect_for_) {
          finished_ = absl::UnavailableError(absl::StrCat(
              "the server was away for more than ", absl::FormatDuration(reconnect_for_), ": ", status.message()));
        } else {
          cancelled_.WaitForNotificationWithTimeout(backoff_.Next());
        }
      } else if (!protocol_.repair(status, request_)) {
        finished_ = status;
      }
    }
    return absl::CancelledError("the stream was cancelled");
  }

  void Cancel() override {
    absl::MutexLock lock(&mutex_);
    if (!cancelled_.HasBeenNotified()) cancelled_.Notify();
    if (context_ != nullptr) context_->TryCancel();
  }

 private:
  void Open() {
    absl::MutexLock lock(&mutex_);
    context_ = std::make_unique<grpc::ClientContext>();
    if (cancelled_.HasBeenNotified()) context_->TryCancel();
    reader_ = protocol_.open(context_.get(), request_);
  }

  absl::Status CloseReader() {
    if (reader_ == nullptr) return absl::OkStatus();
    const absl::Status status = FromGrpcStatus(reader_->Finish());
    absl::MutexLock lock(&mutex_);
    reader_.reset();
    context_.reset();
    return status;
  }

  // Constant after construction.
  const absl::Duration reconnect_for_;
  const Protocol protocol_;

  // Confined to the thread in Next().
  Request request_;
  Backoff backoff_;
  std::unique_ptr<grpc::ClientReader<Wire>> reader_;
  std::optional<absl::StatusOr<std::optional<Message>>> finished_;

  absl::Notification cancelled_;
  absl::Mutex mutex_;
  std::unique_ptr<grpc::ClientContext> context_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::client
