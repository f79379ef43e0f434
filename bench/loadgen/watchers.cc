#include "bench/loadgen/watchers.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "bench/loadgen/quantile.h"
#include "bench/loadgen/unary.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "p2/v1/job_service.pb.h"

namespace p2::loadgen {
namespace {

constexpr int kStreamsPerConnection = 100;

absl::Time ToTime(const v1::WatchedTime& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

}  // namespace

class Watchers::Reader : public grpc::ClientBidiReactor<v1::WatchAll, v1::WatchedEvent> {
 public:
  Reader(Watchers& watchers, Stub& stub) : watchers_(watchers) {
    stub.PrepareBidiStreamingCall(&context_, "/p2.v1.JobService/WatchJobs", {}, this);
    StartWriteLast(&request_, {});
    StartRead(&message_);
    StartCall();
  }
  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    if (message_.type() == p2::v1::WatchJobsResponse::PROGRESS && !ready_) {
      ready_ = true;
      absl::MutexLock lock(&watchers_.mutex_);
      ++watchers_.ready_;
    } else if (ready_ && message_.has_job()) {
      const bool last = !complete_ && message_.job().labels().contains(kLastLabel);
      complete_ |= last;
      watchers_.OnEvent(absl::Now() - ToTime(message_.job().update_time()), last);
    }
    StartRead(&message_);
  }
  void OnDone(const grpc::Status& status) override { watchers_.OnEnd(FromGrpcStatus(status)); }

 private:
  Watchers& watchers_;
  grpc::ClientContext context_;
  const v1::WatchAll request_;
  v1::WatchedEvent message_;
  bool ready_ = false, complete_ = false;
};

absl::StatusOr<std::unique_ptr<Watchers>> Watchers::Start(const std::string& address, int count) {
  auto watchers = std::make_unique<Watchers>();
  for (int i = 0; i < count; ++i) {
    if (i % kStreamsPerConnection == 0) {
      P2_ASSIGN_OR_RETURN(const auto channel, Connect(address));
      watchers->stubs_.push_back(std::make_unique<Stub>(channel));
    }
    watchers->readers_.push_back(std::make_unique<Reader>(*watchers, *watchers->stubs_.back()));
  }
  absl::MutexLock lock(&watchers->mutex_);
  const auto settled = [&]()
                           ABSL_NO_THREAD_SAFETY_ANALYSIS { return watchers->ready_ == count || watchers->ended_ > 0; };
  watchers->mutex_.AwaitWithTimeout(absl::Condition(&settled), kCallTimeout);
  if (watchers->ready_ == count) return watchers;
  absl::Status why = watchers->first_error_;
  if (why.ok()) why = absl::DeadlineExceededError("no present state came");
  const int ready = watchers->ready_;
  return absl::Status(why.code(), absl::StrCat(ready, " of ", count, " watches were taken: ", why.message()));
}

Watchers::~Watchers() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  for (const auto& reader : readers_) reader->Cancel();
  absl::MutexLock lock(&mutex_);
  const auto over = [this]()
                        ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ended_ == static_cast<int>(readers_.size()); };
  mutex_.Await(absl::Condition(&over));
}

void Watchers::Measure(bool on) {
  absl::MutexLock lock(&mutex_);
  measuring_ = on;
}

void Watchers::OnEvent(absl::Duration lag, bool last) {
  absl::MutexLock lock(&mutex_);
  complete_ += last;
  if (!measuring_) return;
  ++events_;
  lags_.push_back(absl::ToDoubleMilliseconds(lag));
}

void Watchers::OnEnd(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  ++ended_;
  if (stopping_) return;
  if (++errors_ == 1) first_error_ = status;
}

nlohmann::ordered_json Watchers::ToJson() const {
  absl::MutexLock lock(&mutex_);
  std::vector<double> sorted = lags_;
  std::sort(sorted.begin(), sorted.end());
  nlohmann::ordered_json json = {{"watchers", readers_.size()},
                                 {"watch_events", events_},
                                 {"watch_lag_p50_ms", Quantile(sorted, 0.5)},
                                 {"watch_lag_p99_ms", Quantile(sorted, 0.99)},
                                 {"watch_errors", errors_}};
  if (!first_error_.ok()) json["first_watch_error"] = first_error_.ToString();
  return json;
}

bool Watchers::AwaitLast() {
  absl::MutexLock lock(&mutex_);
  const auto settled = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return complete_ == static_cast<int>(readers_.size()) || ended_ > 0;
  };
  mutex_.AwaitWithTimeout(absl::Condition(&settled), kCallTimeout);
  return complete_ == static_cast<int>(readers_.size());
}

int64_t Watchers::errors() const {
  absl::MutexLock lock(&mutex_);
  return errors_;
}

}  // namespace p2::loadgen
