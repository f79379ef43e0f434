#include "tests/server/scheduler/simulation/walk.h"

#include <algorithm>

#include "tests/server/scheduler/simulation/draws.h"

namespace p2::scheduler {
namespace {

constexpr int kWhole = 1'000'000;

// Parts of kWhole. What falls on the whole cluster is as rare as there are nodes, so that a large one is not only ever
// recovering: these are the weights for one node.
int WeightOf(DecisionKind kind, int nodes) {
  switch (kind) {
    case DecisionKind::kSubmit:
      return 20'000;
    case DecisionKind::kPerson:
      return 20'000;
    case DecisionKind::kConnect:
      return 90'000;
    case DecisionKind::kDisconnect:
      return 10'000;
    case DecisionKind::kCrash:
      return 3'000;
    case DecisionKind::kTakeAction:
      return 250'000;
    case DecisionKind::kWork:
      return 200'000;
    case DecisionKind::kReport:
      return 300'000;
    case DecisionKind::kLie:
      return 4'000;
    case DecisionKind::kTime:
      return 375'000 / nodes;
    case DecisionKind::kDisk:
      return 15'000 / nodes;
    case DecisionKind::kRestart:
      return 8'000 / nodes;
  }
  return 0;
}

}  // namespace

absl::string_view DecisionName(DecisionKind kind) {
  static constexpr absl::string_view kNames[] = {"submit", "person", "connect", "disconnect", "crash", "take_action",
                                                 "work",   "report", "lie",     "time",       "disk",  "restart"};
  return kNames[static_cast<int>(kind)];
}

Walk::Walk(uint64_t seed, int nodes, int jobs, bool calm) : seed_(Mix(seed + 1)), nodes_(nodes), jobs_(jobs) {
  const auto weight = [&](int kind) {
    const auto it = static_cast<DecisionKind>(kind);
    if (calm) return it == DecisionKind::kSubmit || it == DecisionKind::kTime ? 1 : 0;
    return WeightOf(it, nodes);
  };
  int64_t total = 0;
  for (int kind = 0; kind < kDecisionKinds; ++kind) total += weight(kind);
  int64_t sum = 0;
  for (int kind = 0; kind < kDecisionKinds; ++kind) {
    sum += weight(kind);
    upto_.push_back(static_cast<int>(sum * kWhole / total));
  }
}

Decision Walk::At(int64_t index) const {
  Draws draws(seed_ ^ Mix(static_cast<uint64_t>(index) + 1));
  if (index < jobs_) return {DecisionKind::kSubmit, draws.Next()};
  if (index < int64_t{jobs_} + 2 * nodes_) return {DecisionKind::kConnect, draws.Next()};
  const int part = draws.Below(kWhole);
  const auto kind = std::upper_bound(upto_.begin(), upto_.end(), part) - upto_.begin();
  return {static_cast<DecisionKind>(kind), draws.Next()};
}

}  // namespace p2::scheduler
