// What p2_loadgen can measure. Each takes a p2d, loads it, and returns one JSON object with at least rate_per_s,
// p50_ms, p99_ms and errors.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "bench/loadgen/load.h"
#include "bench/loadgen/server_under_test.h"
#include "nlohmann/json.hpp"

namespace p2::loadgen {

struct ScenarioOptions {
  LoadOptions load;
  // TCP connections that the calls are spread over.
  int connections = 64;
  // submits: scrapes and watches are on meanwhile.
  bool with_load = false;
  // metrics: fake workers, with a job each. watch: open watches.
  int workers = 8;
  int watchers = 1000;
  // restart: ended jobs. restart, schedule and status: jobs in the queue.
  int64_t jobs = 10'000;
  int64_t live = 10'000;
};

using Scenario = absl::StatusOr<nlohmann::ordered_json> (*)(const ScenarioOptions& options, ServerUnderTest& server);

absl::StatusOr<nlohmann::ordered_json> RunSubmits(const ScenarioOptions& options, ServerUnderTest& server);
absl::StatusOr<nlohmann::ordered_json> RunBatch(const ScenarioOptions& options, ServerUnderTest& server);
absl::StatusOr<nlohmann::ordered_json> RunMetrics(const ScenarioOptions& options, ServerUnderTest& server);
absl::StatusOr<nlohmann::ordered_json> RunWatch(const ScenarioOptions& options, ServerUnderTest& server);
absl::StatusOr<nlohmann::ordered_json> RunSchedule(const ScenarioOptions& options, ServerUnderTest& server);
absl::StatusOr<nlohmann::ordered_json> RunRestart(const ScenarioOptions& options, ServerUnderTest& server);
absl::StatusOr<nlohmann::ordered_json> RunStatus(const ScenarioOptions& options, ServerUnderTest& server);
absl::StatusOr<nlohmann::ordered_json> RunScrape(const ScenarioOptions& options, ServerUnderTest& server);

struct NamedScenario {
  absl::string_view name;
  absl::string_view help;
  Scenario run;
};

inline constexpr NamedScenario kScenarios[] = {
    {"submits", "durable CreateJob calls, a second", RunSubmits},
    {"batch", "jobs of BatchCreateJobs calls of 100, a second", RunBatch},
    {"metrics", "metric points that are durable, a second, and their age until QueryMetrics finds them", RunMetrics},
    {"watch", "events that watches of all jobs get, a second, and their lag", RunWatch},
    {"schedule", "idle time of a device between two jobs; a gang of 64 ranks", RunSchedule},
    {"restart", "SIGKILL to serving, memory a job, acknowledged jobs that are lost", RunRestart},
    {"status", "GetJob calls, each of another of the jobs in the queue, a second", RunStatus},
    {"scrape", "GET /metrics with 10,000 series, and what it adds to a submit", RunScrape},
};

}  // namespace p2::loadgen
