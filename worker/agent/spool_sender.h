// Sends the spool to the coordinator, in order, a window ahead of what it acknowledged.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>

#include "absl/status/status.h"
#include "p2/v1/worker_service.pb.h"
#include "worker/agent/spool.h"

namespace p2::agent {

// Confined.
class SpoolSender {
 public:
  // At most this much is under way; one record may exceed it.
  static constexpr size_t kWindowRecords = 1024;
  static constexpr size_t kWindowBytes = size_t{4} << 20;

  explicit SpoolSender(Spool& spool) : spool_(spool) {}

  // The coordinator has `acked`: what comes after it, or after what is kept no more, is sent again.
  void Restart(uint64_t acked);
  // Forgets what is under way, for the acknowledged part ends at `acked`.
  void Acked(uint64_t acked);
  // Sends what is synced and fits into the window.
  absl::Status Pump(const std::function<void(p2::v1::ConnectRequest)>& send);

 private:
  Spool& spool_;
  uint64_t next_ = 0;
  // Sizes of the records before next_ that are not acknowledged.
  std::deque<size_t> under_way_;
  size_t under_way_bytes_ = 0;
};

}  // namespace p2::agent
