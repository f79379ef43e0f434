// What the cluster looks like now, as series made anew at each scrape: what is not there any more is not shown.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "prometheus/collectable.h"
#include "server/scheduler/types.h"
#include "server/store/job_store.h"

namespace p2::metrics {

// What the scheduler counts for accounts.
struct AccountNumbers {
  std::map<std::string, double>
      fair_share_ratio;  // By project: its part of all decayed device time over its part of all weights.
  std::map<std::string, int> quota_devices;  // By project; those with such a quota.
  int ledger_drift = 0;  // Devices by which the shares' own count and that of live gangs differ, over all accounts.
};

// Where the present state comes from. Called at each scrape, from the HTTP server's threads.
struct ClusterSources {
  std::function<std::vector<scheduler::JobPtr>()> live_jobs;
  std::function<std::vector<scheduler::WorkerPtr>()> workers;
  std::function<int()> watchers;
  // Of the data directory; negative: unknown.
  std::function<int64_t()> free_bytes;
  std::function<store::StoreHealth()> store_health;
  std::function<absl::Time()> now;
  std::function<AccountNumbers()> accounts;
};

// Thread-safe.
class ClusterGauges : public prometheus::Collectable {
 public:
  explicit ClusterGauges(std::string version) : version_(std::move(version)) {}

  // Nothing is collected before.
  void SetSources(ClusterSources sources);

  // What a live job's rank 0 reported together. Its values stand until the next row, its bad steps add up.
  void AddRow(const std::string& job, int64_t step, const std::map<std::string, double>& values);
  // `cause`: `out_of_memory`.
  void AddRestart(const std::string& job, const std::string& cause);
  // Of a job that is not named here: 0.
  void SetCheckpointBytes(const std::string& job, int64_t bytes);
  // The job has ended.
  void Forget(absl::string_view job);

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  // What the coordinator's record of a job does not say. Counters begin with this process.
  struct JobValues {
    std::optional<int64_t> step;  // Unset before the first row.
    std::map<std::string, double> values;
    double nonfinite_steps = 0;
    std::map<std::string, int64_t> restarts;  // By cause.
    int64_t checkpoint_bytes = 0;
    std::optional<double> checkpoint_stall, checkpoint_durable_lag;  // Not in every row.
  };

  // Series of live jobs that have started at least once: the oldest ones if there are too many.
  void AddJobs(std::vector<scheduler::JobPtr> jobs, std::vector<prometheus::MetricFamily>& out) const;

  const std::string version_;

  mutable absl::Mutex mutex_;
  ClusterSources sources_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, JobValues> values_ ABSL_GUARDED_BY(mutex_);
};

// `WAITING_FOR_DEVICES`, as in p2.v1.StatusReason.
absl::string_view ReasonName(scheduler::StatusReason reason);

}  // namespace p2::metrics
