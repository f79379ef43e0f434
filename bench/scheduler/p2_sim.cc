// p2_sim: p2d's decisions under everything that can go wrong, held against what must never break.
//
//   p2_sim --events 1000000 --nodes 100 --jobs 1000 --seed 1 -o json
//
// Exit code: 0 nothing broke; 1 something did; 2 wrong arguments.
#include <cstdint>
#include <iostream>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "tests/server/scheduler/simulation/simulation.h"

namespace p2::scheduler {
namespace {

using nlohmann::ordered_json;

constexpr size_t kMostLines = 400;

struct Rates {
  double events = 0, core = 0;  // A second.
};

Rates RatesOf(const SimulationReport& report) {
  const auto rate = [&](absl::Duration time) {
    return time > absl::ZeroDuration() ? static_cast<double>(report.events) / absl::ToDoubleSeconds(time) : 0;
  };
  return {rate(report.time), rate(report.core_time)};
}

ordered_json ToJson(const SimulationOptions& options, const SimulationReport& report) {
  const Rates rates = RatesOf(report);
  ordered_json json = {{"seed", options.seed},
                       {"events", report.events},
                       {"nodes", options.world.nodes},
                       {"jobs", options.world.jobs},
                       {"trace_hash", absl::StrFormat("%016x", report.trace_hash)},
                       {"seconds", absl::ToDoubleSeconds(report.time)},
                       {"events_per_s", rates.events},
                       {"core_events_per_s", rates.core},
                       {"counts", report.counts}};
  json["violations"] = ordered_json::array();
  for (const Violation& violation : report.violations) {
    json["violations"].push_back({{"invariant", violation.invariant}, {"what", violation.what}});
  }
  if (!report.violations.empty()) {
    json["decisions"] = report.decisions;
    json["shrunk_decisions"] = report.shrunk.size();
    json["shrunk"] = report.transcript;
  }
  return json;
}

void Print(const SimulationOptions& options, const SimulationReport& report) {
  const Rates rates = RatesOf(report);
  std::cout << absl::StrFormat("seed %d: %d events on %d nodes with %d jobs in %.2f s, trace hash %016x\n",
                               options.seed, report.events, options.world.nodes, options.world.jobs,
                               absl::ToDoubleSeconds(report.time), report.trace_hash)
            << absl::StrFormat("%.0f events/s; the core alone %.0f events/s\n", rates.events, rates.core);
  for (const auto& [what, count] : report.counts) std::cout << absl::StrFormat("%12d %s\n", count, what);
  if (report.violations.empty()) {
    std::cout << "nothing broke\n";
    return;
  }
  for (const Violation& violation : report.violations) {
    std::cout << "BROKEN " << violation.invariant << ": " << violation.what << "\n";
  }
  std::cout << absl::StrFormat("%d of the %d decisions that led there still lead there:\n", report.shrunk.size(),
                               report.decisions);
  const size_t lines = report.transcript.size();
  if (lines > kMostLines) std::cout << "  (the last " << kMostLines << " of " << lines << " lines)\n";
  for (size_t i = lines > kMostLines ? lines - kMostLines : 0; i < lines; ++i) {
    std::cout << "  " << report.transcript[i] << "\n";
  }
}

int Main(int argc, char** argv) {
  SimulationOptions options;
  std::string output = "text";
  double shrink_seconds = 60;
  options.world.nodes = 100;
  options.world.jobs = 1000;
  options.events = 1'000'000;
  options.world.time_one_in = 16;

  CLI::App app(
      "Runs p2d's decision core, with everything around it simulated: random submits, cancels and cordons, lost "
      "nodes,\n"
      "broken streams, clock jumps, a p2d that dies and recovers. Each event is checked against what must never "
      "break,\n"
      "the whole state every 1000. The same seed gives the same trace hash. After a violation the shortest list of\n"
      "events found that still breaks it is printed.");
  app.option_defaults()->always_capture_default();
  app.add_option("--events", options.events, "Events to take")->check(CLI::PositiveNumber);
  app.add_option("--nodes", options.world.nodes, "Nodes, of 1 to 5 devices each")->check(CLI::Range(1, 100'000));
  app.add_option("--jobs", options.world.jobs, "Jobs that are kept live")->check(CLI::Range(1, 1'000'000));
  app.add_flag("--calm", options.world.calm, "Nothing fails: what the core predicts is held against what happens");
  app.add_option("--seed", options.seed, "Decides everything that happens");
  app.add_option("--shrink-seconds", shrink_seconds, "After a violation, look so long for a shorter list; 0: do not")
      ->check(CLI::NonNegativeNumber);
  app.add_option("-o,--output", output, "What to print")->check(CLI::IsMember({"text", "json"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  options.shrink_time = absl::Seconds(shrink_seconds);

  const SimulationReport report = Simulate(options);
  if (output == "json") {
    std::cout << ToJson(options, report).dump(2) << "\n";
  } else {
    Print(options, report);
  }
  return report.violations.empty() ? 0 : 1;
}

}  // namespace
}  // namespace p2::scheduler

int main(int argc, char** argv) { return p2::scheduler::Main(argc, argv); }
