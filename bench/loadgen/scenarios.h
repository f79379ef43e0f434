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
};

using Scenario = absl::StatusOr<nlohmann::ordered_json> (*)(const ScenarioOptions& options, ServerUnderTest& server);

absl::StatusOr<nlohmann::ordered_json> RunSubmits(const ScenarioOptions& options, ServerUnderTest& server);

struct NamedScenario {
  absl::string_view name;
  absl::string_view help;
  Scenario run;
};

inline constexpr NamedScenario kScenarios[] = {
    {"submits", "durable CreateJob calls", RunSubmits},
};

}  // namespace p2::loadgen
