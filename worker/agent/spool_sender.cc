#include "worker/agent/spool_sender.h"

#include <algorithm>

#include "common/status_macros.h"

namespace p2::agent {

void SpoolSender::Restart(uint64_t acked) {
  next_ = std::max(spool_.first_kept(), acked + 1);
  under_way_.clear();
  under_way_bytes_ = 0;
}

void SpoolSender::Acked(uint64_t acked) {
  while (!under_way_.empty() && next_ - under_way_.size() <= acked) {
    under_way_bytes_ -= under_way_.front();
    under_way_.pop_front();
  }
}

absl::Status SpoolSender::Pump(const std::function<void(p2::v1::ConnectRequest)>& send) {
  while (next_ <= spool_.synced() && under_way_.size() < kWindowRecords && under_way_bytes_ < kWindowBytes) {
    p2::v1::ConnectRequest message;
    P2_ASSIGN_OR_RETURN(*message.mutable_spool(), spool_.Read(next_));
    under_way_.push_back(message.ByteSizeLong());
    under_way_bytes_ += under_way_.back();
    ++next_;
    send(std::move(message));
  }
  return absl::OkStatus();
}

}  // namespace p2::agent
