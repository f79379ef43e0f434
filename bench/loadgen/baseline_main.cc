// p2_baseline: the systems that p2d is held against, under p2_loadgen's load.
//
//   p2_baseline etcd --seconds 10 --clients 64
//
// Prints one JSON object. Exit code: 0 measured, without errors; 1 with errors, or not measured; 2 wrong arguments;
// 3 the program that is to be measured is not installed.
#include <stdlib.h>

#include <iostream>
#include <map>

#include "CLI/CLI.hpp"
#include "bench/loadgen/baselines.h"

namespace p2::loadgen {
namespace {

int Main(int argc, char** argv) {
  BaselineOptions options;
  std::string name, ready_file;
  double seconds = 10;
  if (const char* temporary = getenv("TMPDIR"); temporary != nullptr) options.parent_directory = temporary;
  using Baseline = absl::StatusOr<LoadResult> (*)(const BaselineOptions&);
  const std::map<std::string, Baseline> baselines = {{"echo", RunEcho}, {"rocksdb", RunRocksDb}, {"etcd", RunEtcd}};
  CLI::App app(
      "Loads gRPC alone (echo), RocksDB alone (rocksdb) or an etcd as p2_loadgen loads p2d, on the same core and "
      "disk.");
  app.option_defaults()->always_capture_default();
  app.add_option("baseline", name, "What to measure")
      ->required()
      ->check(CLI::IsMember({"echo", "rocksdb", "etcd", "serve-echo"}));
  app.add_option("--seconds", seconds, "What is measured, after a warm-up of a tenth")->check(CLI::Range(0.1, 3600.0));
  app.add_option("--clients", options.load.clients, "Of the closed loop, with a connection each")
      ->check(CLI::Range(1, 10'000));
  app.add_option("--request-bytes", options.request_bytes, "echo: of a call")->check(CLI::Range(0, 1 << 20));
  app.add_option("--response-bytes", options.response_bytes, "echo: of its answer")->check(CLI::Range(0, 1 << 20));
  app.add_option("--stored-bytes", options.stored_bytes, "rocksdb, etcd: of a value")->check(CLI::Range(0, 1 << 20));
  app.add_option("--seed", options.load.seed, "Decides the values");
  app.add_option("--dir", options.parent_directory, "Where data lie; on the disk that is meant");
  app.add_option("--etcd", options.etcd, "The program");
  app.add_option("--ready-file", ready_file, "serve-echo, the server's side of echo: gets its address");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (name == "serve-echo") ServeEcho(ready_file);
  options.load.duration = absl::Seconds(seconds);
  options.load.warm_up = options.load.duration / 10;
  options.cores = ChooseCores();
  PinTo(options.cores.generator);
  EndWithSignals();
  const absl::StatusOr<LoadResult> result = baselines.at(name)(options);
  if (!result.ok()) {
    std::cerr << "p2_baseline: " << result.status().message() << "\n";
    return absl::IsNotFound(result.status()) ? 3 : 1;
  }
  nlohmann::ordered_json json = {{"baseline", name}};
  json.update(result->ToJson());
  std::cout << json.dump() << "\n";
  return result->errors == 0 ? 0 : 1;
}

}  // namespace
}  // namespace p2::loadgen

int main(int argc, char** argv) { return p2::loadgen::Main(argc, argv); }
