// Watches of all jobs, and how late their events come.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "bench/loadgen/watched.pb.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "nlohmann/json.hpp"

namespace p2::loadgen {

inline constexpr char kLastLabel[] = "loadgen-last";

// Thread-safe.
class Watchers {
 public:
  // `count` WatchJobs streams over so many connections that none carries more than p2d lets it (100). Each has had the
  // present state when it returns, but for UNAVAILABLE and RESOURCE_EXHAUSTED: p2d did not take so many.
  static absl::StatusOr<std::unique_ptr<Watchers>> Start(const std::string& address, int count);
  ~Watchers();

  // From now on (a measured stretch begins) or no longer.
  void Measure(bool on);
  // watchers, watch_events, watch_lag_p50_ms and watch_lag_p99_ms of the measured stretch, watch_errors. Lag: from the
  // job's update_time, which p2d sets before the job is durable, to the event's arrival.
  nlohmann::ordered_json ToJson() const;
  // Waits until all have seen a job with the label kLastLabel, and so all that came before it. False: it did not come
  // to all of them within 30 s, or a watch ended.
  bool AwaitLast();
  int64_t errors() const;

 private:
  class Reader;
  using Stub = grpc::TemplatedGenericStub<v1::WatchAll, v1::WatchedEvent>;
  void OnEvent(absl::Duration lag, bool last);
  void OnEnd(const absl::Status& status);

  mutable absl::Mutex mutex_;
  bool measuring_ ABSL_GUARDED_BY(mutex_) = false;
  int64_t events_ ABSL_GUARDED_BY(mutex_) = 0, errors_ ABSL_GUARDED_BY(mutex_) = 0;
  int ready_ ABSL_GUARDED_BY(mutex_) = 0, complete_ ABSL_GUARDED_BY(mutex_) = 0, ended_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status first_error_ ABSL_GUARDED_BY(mutex_);
  std::vector<double> lags_ ABSL_GUARDED_BY(mutex_);  // ms

  std::vector<std::unique_ptr<Stub>> stubs_;
  std::vector<std::unique_ptr<Reader>> readers_;
};

}  // namespace p2::loadgen
