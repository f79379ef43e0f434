// What the cluster looks like now, as gauges made anew at each scrape: nothing has to be forgotten when a job or worker
// goes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "prometheus/collectable.h"
#include "server/scheduler/types.h"

namespace p2::metrics {

// Where the present state comes from. Called at each scrape, from the HTTP server's threads.
struct ClusterSources {
  std::function<std::vector<scheduler::JobPtr>()> live_jobs;
  std::function<std::vector<scheduler::WorkerPtr>()> workers;
  std::function<int()> watchers;
  // Of the data directory; negative: unknown.
  std::function<int64_t()> free_bytes;
  std::function<absl::Time()> now;
};

// Thread-safe.
class ClusterGauges : public prometheus::Collectable {
 public:
  explicit ClusterGauges(std::string version) : version_(std::move(version)) {}

  // Nothing is collected before.
  void SetSources(ClusterSources sources);

  // The last values that a job's rank 0 reported.
  void SetValues(const std::string& job, int64_t step, const std::map<std::string, double>& values);
  void ForgetValues(absl::string_view job);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  struct Values {
    int64_t step = 0;
    std::map<std::string, double> values;
  };

  const std::string version_;

  mutable absl::Mutex mutex_;
  ClusterSources sources_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Values, std::less<>> values_ ABSL_GUARDED_BY(mutex_);
};

// `WAITING_FOR_DEVICES`, as in p2.v1.StatusReason.
absl::string_view ReasonName(scheduler::StatusReason reason);

}  // namespace p2::metrics
