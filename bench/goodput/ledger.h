// Where the device time of a job goes: every device-second from its first start to its end is exactly one Part.
#pragma once

#include <array>
#include <cstdint>
#include <deque>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace p2::goodput {

enum class Part {
  kUseful,      // Samples that are in the result.
  kLostWork,    // Samples computed since the last durable checkpoint when an attempt broke: computed again.
  kCheckpoint,  // Training waits for a checkpoint, or has to save one before it yields its devices.
  kDetection,   // Something broke, and p2d has not decided yet that the attempt is over.
  kStopping,    // It has, and waits for the other ranks to end.
  kBackoff,     // Before the next attempt.
  kWaiting,     // For devices.
  kRestart,     // The gang forms, loads, and does not step yet.
  kFewer,       // An elastic job runs on fewer devices than it wants: those it has not.
  kFailed,      // Of a job that p2d gave up: until the end of the time.
};
constexpr int kParts = 10;
absl::string_view PartName(Part part);  // `lost_work`.

using Parts = std::array<double, kParts>;  // Device-seconds.

// Of one job. Time only goes forward. Confined.
class Ledger {
 public:
  explicit Ledger(int wanted) : wanted_(wanted) {}

  // What has been going on ends at `now`; from now on it is `part`, on `running` devices of those wanted, of which
  // `held` are held. Work in progress is entered as kUseful, and counts only when it is Saved.
  void Switch(absl::Time now, Part part, int running, int held);
  void Snapshot(absl::Time now);  // Work until now is in a snapshot that is being written.
  void Saved();                   // The oldest of these is durable.
  void Lose();                    // What is not durable has to be done again.
  // `count` times `work` and `wait` pass and are saved at once. REQUIRES: work goes on, none is being written.
  void Repeat(int64_t count, absl::Duration work, absl::Duration wait);
  void End(absl::Time now);  // REQUIRES: after Saved or Lose.
  void Fail(absl::Time now, absl::Time until);

  bool started() const { return started_ != absl::InfinitePast(); }
  bool ended() const { return ended_; }
  double Total() const { return total_; }  // Device-seconds that it wanted from its start to its end.
  double held() const { return held_total_; }
  const Parts& parts() const { return parts_; }

 private:
  void Close(absl::Time now);
  double& In(Part part) { return parts_[static_cast<int>(part)]; }

  const int wanted_;
  absl::Time started_ = absl::InfinitePast(), since_;
  Part part_ = Part::kWaiting;
  int running_ = 0, held_ = 0;
  bool ended_ = false;
  double fresh_ = 0;              // Work since the last snapshot.
  std::deque<double> snapshots_;  // In those that are not durable.
  double total_ = 0, held_total_ = 0;
  Parts parts_{};
};

}  // namespace p2::goodput
