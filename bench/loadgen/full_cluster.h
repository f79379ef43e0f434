// The usual stage of a measurement: a worker whose devices are all held by a job that goes on, so that whatever is
// submitted waits in the queue.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "bench/loadgen/fake_worker.h"
#include "p2/client.h"

namespace p2::loadgen {

// Thread-safe.
class FullCluster : private Gang {
 public:
  // `address`: p2d's. Afterwards the job runs. `seed`: no job of another seed is taken for this one.
  static absl::StatusOr<std::unique_ptr<FullCluster>> Make(const std::string& address, uint64_t seed);

  Client& client() { return *client_; }
  // The stream is gone: p2d ended it, or was ended.
  bool broken() const { return worker_->broken(); }

 private:
  void OnStart(FakeWorker& worker, const p2::v1::Start& start) override;

  std::unique_ptr<Client> client_;
  absl::Notification started_;
  std::unique_ptr<FakeWorker> worker_;  // Last: its threads call this object.
};

}  // namespace p2::loadgen
