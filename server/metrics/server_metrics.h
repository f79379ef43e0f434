// Everything that p2d's /metrics serves (common/metric_names.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "prometheus/collectable.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"
#include "server/coordinator/coordinator.h"
#include "server/metrics/cluster_gauges.h"

namespace p2::metrics {

// OnCommit and OnRefused are the coordinator's loop thread's; everything else is thread-safe.
class ServerMetrics : public coordinator::Observer {
 public:
  explicit ServerMetrics(const std::string& version);

  // Once the coordinator runs.
  void SetSources(ClusterSources sources) { gauges_->SetSources(std::move(sources)); }

  void OnCommit(const scheduler::ClusterState& state, absl::Span<const scheduler::Mutation> mutations,
                absl::Duration step_time, absl::Duration write_time) override;
  void OnRefused(absl::string_view worker, absl::string_view why) override;
  // `code`: `OK`, `NOT_FOUND`.
  void OnRpc(const std::string& service, const std::string& method, const std::string& code, absl::Duration taken);

  // For http::MetricsHandler; they live as long as this.
  std::vector<std::weak_ptr<prometheus::Collectable>> collectables() const { return {registry_, gauges_}; }

 private:
  // How a live job stood at its last change.
  struct Seen {
    int attempt = 0;
    bool live = false;
    bool started = false;
  };

  // Of a method's ends with one code.
  struct RpcSeries {
    prometheus::Counter* handled = nullptr;
    prometheus::Histogram* seconds = nullptr;
  };

  RpcSeries RpcSeriesOf(const std::string& service, const std::string& method, const std::string& code);
  void OnJob(const scheduler::JobRecord& job);
  // An attempt that p2d stopped for another job has ended.
  void OnMadeRoom(const scheduler::JobRecord& job);
  void CountCheckpoints(const scheduler::ClusterState& state, absl::Span<const scheduler::Mutation> mutations);

  // Constant after construction.
  const std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  const std::shared_ptr<ClusterGauges> gauges_;
  prometheus::Histogram& queue_wait_;
  prometheus::Histogram& gang_start_;
  prometheus::Histogram& scheduler_cycle_;
  prometheus::Histogram& store_write_;
  prometheus::Counter& admissions_;
  prometheus::Family<prometheus::Counter>& preemptions_;
  prometheus::Counter& preempted_lost_images_;
  prometheus::Counter& epoch_conflicts_;
  prometheus::Counter& checkpoint_failures_;
  prometheus::Family<prometheus::Counter>& rpc_handled_;
  prometheus::Family<prometheus::Histogram>& rpc_seconds_;

  // By the three names: to find a series among its labels takes longer than most of an RPC's other parts.
  absl::Mutex mutex_;
  absl::flat_hash_map<std::string, RpcSeries> rpc_series_ ABSL_GUARDED_BY(mutex_);

  // Confined to the loop thread.
  absl::flat_hash_map<std::string, Seen> seen_;
  bool counted_checkpoints_ = false;  // Of the jobs that were live at the start.
};

}  // namespace p2::metrics
