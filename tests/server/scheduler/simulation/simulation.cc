#include "tests/server/scheduler/simulation/simulation.h"

#include <algorithm>
#include <chrono>

namespace p2::scheduler {
namespace {

using SteadyClock = std::chrono::steady_clock;

// How many decisions of the list it takes until `invariant` is violated; 0 if it is not.
size_t DecisionsUntil(const WorldOptions& options, const std::vector<Decision>& decisions,
                      absl::string_view invariant) {
  World world(options);
  size_t played = 0;
  for (const Decision& decision : decisions) {
    ++played;
    if (!world.Perform(decision)) break;
  }
  if (world.violations().empty()) world.Finish();
  return !world.violations().empty() && world.violations().front().invariant == invariant ? played : 0;
}

}  // namespace

std::vector<Decision> Shrink(std::vector<Decision> decisions,
                             const std::function<size_t(const std::vector<Decision>&)>& fails_after,
                             absl::Duration time) {
  const auto end = SteadyClock::now() + absl::ToChronoNanoseconds(time);
  size_t chunk = std::max<size_t>(decisions.size() / 2, 1);
  while (true) {
    bool shorter = false;
    for (size_t at = 0; at < decisions.size();) {
      if (SteadyClock::now() > end) return decisions;
      std::vector<Decision> fewer(decisions.begin(), decisions.begin() + at);
      fewer.insert(fewer.end(), decisions.begin() + std::min(at + chunk, decisions.size()), decisions.end());
      const size_t needed = fails_after(fewer);
      if (needed == 0) {
        at += chunk;
        continue;
      }
      fewer.resize(needed);
      decisions = std::move(fewer);
      shorter = true;
    }
    if (chunk == 1 && !shorter) return decisions;
    chunk = std::max<size_t>(chunk / 2, 1);
  }
}

std::vector<Violation> Replay(const WorldOptions& options, const std::vector<Decision>& decisions,
                              std::vector<std::string>* transcript) {
  World world(options);
  if (transcript != nullptr) world.KeepTranscript();
  for (const Decision& decision : decisions) {
    if (!world.Perform(decision)) break;
  }
  if (world.violations().empty()) world.Finish();
  if (transcript != nullptr) *transcript = world.transcript();
  return world.violations();
}

SimulationReport Simulate(const SimulationOptions& options) {
  const Walk walk(options.seed, options.world.nodes, options.world.jobs, options.world.calm);
  const auto begin = SteadyClock::now();
  World world(options.world);
  int64_t decided = 0;
  while (world.events() < options.events && world.Perform(walk.At(decided))) ++decided;
  if (world.violations().empty()) world.Finish();

  SimulationReport report;
  report.time = absl::FromChrono(SteadyClock::now() - begin);
  report.events = world.events();
  report.trace_hash = world.trace_hash();
  report.core_time = world.CoreTime();
  report.counts = world.Counts();
  report.violations = world.violations();
  if (report.violations.empty()) return report;

  for (int64_t i = 0; i <= decided; ++i) report.shrunk.push_back(walk.At(i));
  report.decisions = report.shrunk.size();
  if (options.shrink_time > absl::ZeroDuration()) {
    const std::string invariant = report.violations.front().invariant;
    report.shrunk = Shrink(
        std::move(report.shrunk),
        [&](const std::vector<Decision>& decisions) { return DecisionsUntil(options.world, decisions, invariant); },
        options.shrink_time);
  }
  Replay(options.world, report.shrunk, &report.transcript);
  return report;
}

}  // namespace p2::scheduler
