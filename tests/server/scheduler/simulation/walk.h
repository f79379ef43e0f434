// What is decided to happen in a world, from one seed. A run is a list of decisions; each holds all that it needs, so
// that any part of the list can be played as well.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

namespace p2::scheduler {

// On whom it falls is drawn where it happens.
enum class DecisionKind : uint8_t {
  kSubmit,      // A person submits a job.
  kPerson,      // A person asks for anything else.
  kConnect,     // A node without a stream connects.
  kDisconnect,  // A stream breaks; the node's ranks run on.
  kCrash,       // A node's agent dies with its ranks, and starts again.
  kTakeAction,  // A node does the next thing that p2d told it.
  kWork,        // A rank steps, saves, fails or ends.
  kReport,      // A node sends the next record of its spool.
  kLie,         // A node reports at an epoch that is gone.
  kTime,        // Time passes: heartbeats and a tick; now and then the clocks jump.
  kDisk,        // p2d's disk fills up, or has space again.
  kRestart,     // p2d dies, with all that it has not written, and recovers.
};
constexpr int kDecisionKinds = 12;
absl::string_view DecisionName(DecisionKind kind);

struct Decision {
  DecisionKind kind = DecisionKind::kTime;
  uint64_t draw = 0;
};

class Walk {
 public:
  // `nodes`, `jobs`: how many there are; all of them come first, and then anything; in a calm world only jobs and time.
  Walk(uint64_t seed, int nodes, int jobs, bool calm = false);

  Decision At(int64_t index) const;

 private:
  uint64_t seed_;
  int nodes_, jobs_;
  std::vector<int> upto_;  // By kind: cumulative weight, of kWhole.
};

}  // namespace p2::scheduler
