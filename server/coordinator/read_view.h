// What readers see of the loop's state: immutable records, replaced after each synced batch.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "server/scheduler/cluster_state.h"
#include "server/scheduler/job_table.h"

namespace p2::coordinator {

using WorkerList = std::shared_ptr<const std::vector<scheduler::WorkerPtr>>;
using DatasetList = std::shared_ptr<const std::vector<scheduler::DatasetPtr>>;

// Thread-safe.
class ReadView {
 public:
  void Reset(const scheduler::ClusterState& state);
  // Those mutations that change live jobs, workers and datasets.
  void Apply(absl::Span<const scheduler::Mutation> mutations);

  scheduler::JobPtr FindJob(absl::string_view id) const;  // Null if it is not live.
  std::vector<scheduler::JobPtr> Jobs() const;            // In no order.
  // By ID. Readers between two changes get the same list.
  WorkerList Workers() const;
  DatasetList Datasets() const;

 private:
  mutable absl::Mutex mutex_;
  scheduler::JobTable jobs_ ABSL_GUARDED_BY(mutex_);
  scheduler::ClusterState::Workers workers_ ABSL_GUARDED_BY(mutex_);
  scheduler::ClusterState::Datasets datasets_ ABSL_GUARDED_BY(mutex_);
  // Null after a change.
  mutable WorkerList worker_list_ ABSL_GUARDED_BY(mutex_);
  mutable DatasetList dataset_list_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::coordinator
