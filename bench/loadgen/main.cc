// p2_loadgen: what p2d's control plane can carry.
//
//   p2_loadgen submits --spawn --seconds 10 -o json
//
// Exit code: 0 measured, without errors; 1 with errors, or not measured; 2 wrong arguments.
#include <stdlib.h>

#include <fstream>
#include <iostream>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bench/loadgen/scenarios.h"

namespace p2::loadgen {
namespace {

using nlohmann::ordered_json;

// The program beside this one.
std::string Beside(const std::string& name) {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof(path));
  const std::string self(path, static_cast<size_t>(std::max<ssize_t>(0, length)));
  return self.substr(0, self.rfind('/') + 1) + name;
}

double LoadAverage() {
  double average = 0;
  std::ifstream("/proc/loadavg") >> average;
  return average;
}

absl::StatusOr<ordered_json> Measure(const NamedScenario& scenario, const ScenarioOptions& options,
                                     const ServerOptions& server_options, const Cores& cores) {
  ordered_json json = {{"scenario", scenario.name},
                       {"seconds", absl::ToDoubleSeconds(options.load.duration)},
                       {"seed", options.load.seed},
                       {"load_average", LoadAverage()}};
  absl::StatusOr<std::unique_ptr<ServerUnderTest>> server = ServerUnderTest::Open(server_options);
  if (!server.ok()) return server.status();
  const absl::Time begin = absl::Now();
  absl::StatusOr<ordered_json> measured = scenario.run(options, **server);
  if (!measured.ok()) return measured.status();
  json.update(*measured);
  if ((*server)->spawned()) {
    json["pinned_apart"] = cores.apart();
    json["on_disk"] = (*server)->on_disk();
    json["p2d_rss_bytes"] = (*server)->process().ResidentBytes();
    json["p2d_cpu_share"] = absl::FDivDuration((*server)->process().CpuTime(), absl::Now() - begin);
  }
  return json;
}

int Main(int argc, char** argv) {
  ScenarioOptions options;
  ServerOptions server;
  std::string scenario, output = "text";
  double seconds = 10;
  server.p2d = Beside("p2d");
  const char* const temporary = getenv("TMPDIR");
  if (temporary != nullptr) server.parent_directory = temporary;

  std::vector<std::string> names;
  std::string help;
  for (const NamedScenario& one : kScenarios) {
    names.emplace_back(one.name);
    absl::StrAppendFormat(&help, "\n  %-9s %s", one.name, one.help);
  }
  CLI::App app(absl::StrCat(
      "Loads p2d and says how it does. Latencies are counted from when a call was due.\n\nScenarios:", help));
  app.option_defaults()->always_capture_default();
  app.add_option("scenario", scenario, "What to measure")->required()->check(CLI::IsMember(names));
  app.add_flag("--spawn", server.spawn, "Start an own p2d on another core, and remove it and its data afterwards");
  app.add_option("--p2d", server.p2d, "With --spawn: the program");
  app.add_option("--p2d-flag", server.flags, "With --spawn: one more flag of it (may be repeated)");
  app.add_option("--dir", server.parent_directory, "With --spawn: where its data lie; on the disk that is meant");
  app.add_option("--addr", server.grpc, "Without --spawn: the gRPC address of a p2d that runs");
  app.add_option("--http", server.http, "Without --spawn: its HTTP address");
  app.add_option("--seconds", seconds, "What is measured, after a warm-up of a tenth")->check(CLI::Range(0.1, 3600.0));
  app.add_option("--rate", options.load.rate,
                 "Calls a second (batch: jobs, metrics: points), due at random (Poisson); 0: a closed loop of clients")
      ->check(CLI::Range(0.0, 1e6));
  app.add_option("--clients", options.load.clients, "Of the closed loop; schedule: devices of short jobs")
      ->check(CLI::Range(1, 10'000));
  app.add_option("--connections", options.connections, "TCP connections of the calls")->check(CLI::Range(1, 10'000));
  app.add_option("--seed", options.load.seed, "Decides the arrivals and the request IDs")
      ->check(CLI::Range(uint64_t{0}, uint64_t{0xffffffff}));
  app.add_flag("--with-load", options.with_load, "submits: with 10 watches and a scrape a second beside them");
  app.add_option("--workers", options.workers, "metrics: fake workers")->check(CLI::Range(1, 500));
  app.add_option("--watchers", options.watchers, "watch: open watches")->check(CLI::Range(1, 100'000));
  app.add_option("--jobs", options.jobs, "restart: ended jobs")->check(CLI::Range(int64_t{0}, int64_t{100'000'000}));
  app.add_option("--live", options.live, "restart, schedule, status: queued jobs")
      ->check(CLI::Range(int64_t{1}, int64_t{10'000'000}));
  app.add_option("-o,--output", output, "What to print")->check(CLI::IsMember({"text", "json"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  options.load.duration = absl::Seconds(seconds);
  options.load.warm_up = options.load.duration / 10;

  const Cores cores = ChooseCores();
  server.core = cores.server;
  if (server.spawn) PinTo(cores.generator);
  EndWithSignals();
  const auto chosen = std::find_if(std::begin(kScenarios), std::end(kScenarios),
                                   [&](const NamedScenario& one) { return one.name == scenario; });
  const absl::StatusOr<ordered_json> json = Measure(*chosen, options, server, cores);
  if (!json.ok()) {
    std::cerr << "p2_loadgen: " << json.status().message() << "\n";
    return 1;
  }
  if (output == "json") {
    std::cout << json->dump() << "\n";
  } else {
    for (const auto& [key, value] : json->items()) std::cout << absl::StrFormat("%-22s %s\n", key, value.dump());
  }
  return json->at("errors") == 0 ? 0 : 1;
}

}  // namespace
}  // namespace p2::loadgen

int main(int argc, char** argv) { return p2::loadgen::Main(argc, argv); }
