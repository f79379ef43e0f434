#include "bench/goodput/ledger.h"

#include <algorithm>

namespace p2::goodput {

absl::string_view PartName(Part part) {
  static constexpr absl::string_view kNames[kParts] = {"useful",        "lost_work", "checkpoint", "detection",
                                                       "stopping",      "backoff",   "waiting",    "restart",
                                                       "fewer_devices", "failed"};
  return kNames[static_cast<int>(part)];
}

void Ledger::Close(absl::Time now) {
  // After Repeat the job is ahead of the clock.
  const double seconds = std::max(0.0, absl::ToDoubleSeconds(now - since_));
  if (part_ == Part::kUseful) {
    fresh_ += seconds * running_;
  } else {
    In(part_) += seconds * running_;
  }
  In(Part::kFewer) += seconds * (wanted_ - running_);
  held_total_ += seconds * held_;
  since_ = std::max(since_, now);
}

void Ledger::Switch(absl::Time now, Part part, int running, int held) {
  if (ended_) return;
  if (!started()) {
    started_ = since_ = now;
  } else {
    Close(now);
  }
  part_ = part;
  running_ = running;
  held_ = held;
}

void Ledger::Snapshot(absl::Time now) {
  Close(now);
  snapshots_.push_back(fresh_);
  fresh_ = 0;
}

void Ledger::Saved() {
  In(Part::kUseful) += snapshots_.front();
  snapshots_.pop_front();
}

void Ledger::Lose() {
  for (const double work : snapshots_) In(Part::kLostWork) += work;
  In(Part::kLostWork) += fresh_;
  snapshots_.clear();
  fresh_ = 0;
}

void Ledger::Repeat(int64_t count, absl::Duration work, absl::Duration wait) {
  In(Part::kUseful) += absl::ToDoubleSeconds(work * count) * running_;
  In(Part::kCheckpoint) += absl::ToDoubleSeconds(wait * count) * running_;
  In(Part::kFewer) += absl::ToDoubleSeconds((work + wait) * count) * (wanted_ - running_);
  held_total_ += absl::ToDoubleSeconds((work + wait) * count) * held_;
  since_ += (work + wait) * count;
}

void Ledger::End(absl::Time now) {
  Close(now);
  Lose();
  ended_ = true;
  total_ = absl::ToDoubleSeconds(now - started_) * wanted_;
}

void Ledger::Fail(absl::Time now, absl::Time until) {
  End(now);
  const double rest = std::max(0.0, absl::ToDoubleSeconds(until - now)) * wanted_;
  In(Part::kFailed) += rest;
  total_ += rest;
}

}  // namespace p2::goodput
