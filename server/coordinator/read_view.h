// What readers see of the loop's state: immutable records, replaced after each synced batch.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "server/scheduler/cluster_state.h"

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
  // Records know their IDs: a queued job need not have it here once more.
  struct IdHash {
    using is_transparent = void;
    size_t operator()(absl::string_view id) const { return absl::Hash<absl::string_view>()(id); }
    size_t operator()(const scheduler::JobPtr& job) const { return (*this)(job->id); }
  };
  struct IdEqual {
    using is_transparent = void;
    static absl::string_view IdOf(absl::string_view id) { return id; }
    static absl::string_view IdOf(const scheduler::JobPtr& job) { return job->id; }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return IdOf(a) == IdOf(b);
    }
  };

  mutable absl::Mutex mutex_;
  absl::flat_hash_set<scheduler::JobPtr, IdHash, IdEqual> jobs_ ABSL_GUARDED_BY(mutex_);
  scheduler::ClusterState::Workers workers_ ABSL_GUARDED_BY(mutex_);
  scheduler::ClusterState::Datasets datasets_ ABSL_GUARDED_BY(mutex_);
  // Null after a change.
  mutable WorkerList worker_list_ ABSL_GUARDED_BY(mutex_);
  mutable DatasetList dataset_list_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::coordinator
