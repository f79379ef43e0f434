// A run of the world from one seed, what it did, and, if something broke, the shortest list of decisions found that
// still breaks it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/server/scheduler/simulation/checker.h"
#include "tests/server/scheduler/simulation/walk.h"
#include "tests/server/scheduler/simulation/world.h"

namespace p2::scheduler {

struct SimulationOptions {
  WorldOptions world;
  uint64_t seed = 1;
  int64_t events = 100'000;                        // At least so many; the last decision may make a few more.
  absl::Duration shrink_time = absl::Seconds(60);  // At most; zero: the list is not shortened.
};

struct SimulationReport {
  int64_t events = 0;
  uint64_t trace_hash = 0;
  absl::Duration time;       // All of it, less the shrinking.
  absl::Duration core_time;  // Of that, in Step and ClusterState::Apply, as measured on a sample; zero if it was not.
  std::map<std::string, int64_t> counts;
  std::vector<Violation> violations;
  // After a violation.
  size_t decisions = 0;                 // That led to it.
  std::vector<Decision> shrunk;         // That still lead to one of the same invariant.
  std::vector<std::string> transcript;  // Of those: one readable line for each event and what was decided.
};

SimulationReport Simulate(const SimulationOptions& options);

// Plays the list in a new world; its first violation, or none.
std::vector<Violation> Replay(const WorldOptions& options, const std::vector<Decision>& decisions,
                              std::vector<std::string>* transcript = nullptr);

// Delta debugging (Zeller, Hildebrandt, TSE 2002): leaves out ever smaller parts for as long as what is left still
// fails, for at most `time`. `fails_after`: how many decisions of a list it takes until it fails; 0 if it does not.
// REQUIRES: the whole list fails.
std::vector<Decision> Shrink(std::vector<Decision> decisions,
                             const std::function<size_t(const std::vector<Decision>&)>& fails_after,
                             absl::Duration time);

}  // namespace p2::scheduler
