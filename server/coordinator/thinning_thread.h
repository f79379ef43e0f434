// Makes old metrics smaller beside the loop, which would wait for the disk that they are read from.
#pragma once

#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/store/job_store.h"

namespace p2::coordinator {

// Confined to one thread but for `done`.
class ThinningThread {
 public:
  using Done = std::function<void(absl::StatusOr<std::vector<store::ThinnedChunk>>)>;

  // `done` is called once for each Begin, on a thread of its own. `store` must outlive this.
  ThinningThread(const store::JobStore& store, Done done);
  // Waits for what is under way: for about the budget.
  ~ThinningThread();

  // JobStore::PrepareThinning. REQUIRES: `done` was called for the Begin before.
  void Begin(absl::Time older_than, absl::Duration budget);

 private:
  struct Order {
    absl::Time older_than;
    absl::Duration budget;
  };

  void Run();

  // Constant after construction.
  const store::JobStore& store_;
  const Done done_;

  absl::Mutex mutex_;
  std::optional<Order> order_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;  // Last: it uses the others.
};

}  // namespace p2::coordinator
