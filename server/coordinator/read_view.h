// What readers see of the loop's state: immutable records, replaced after each synced batch.
#pragma once

#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "server/scheduler/cluster_state.h"

namespace p2::coordinator {

// Thread-safe.
class ReadView {
 public:
  void Reset(const scheduler::ClusterState& state);
  // Those mutations that change live jobs, workers and datasets.
  void Apply(absl::Span<const scheduler::Mutation> mutations);

  scheduler::JobPtr FindJob(absl::string_view id) const;  // Null if it is not live.
  std::vector<scheduler::JobPtr> Jobs() const;
  std::vector<scheduler::WorkerPtr> Workers() const;
  std::vector<scheduler::DatasetPtr> Datasets() const;

 private:
  mutable absl::Mutex mutex_;
  scheduler::ClusterState::Jobs jobs_ ABSL_GUARDED_BY(mutex_);
  scheduler::ClusterState::Workers workers_ ABSL_GUARDED_BY(mutex_);
  scheduler::ClusterState::Datasets datasets_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::coordinator
