// How calls are made over time: a closed loop of clients, or arrivals that wait for nobody.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"

namespace p2::loadgen {

struct LoadOptions {
  // Arrivals a second, a Poisson process; 0: a closed loop, in which each client makes its next call when its last one
  // was answered well.
  double rate = 0;
  // Of the closed loop. REQUIRES: >= 1.
  int clients = 64;
  // What is measured, after a warm-up that is not. REQUIRES: > 0.
  absl::Duration duration = absl::Seconds(10);
  absl::Duration warm_up = absl::Seconds(1);
  uint64_t seed = 1;
};

struct LoadResult {
  double rate_per_s = 0;  // Answered well in the measured time, a second.
  // From when a call was due (rate > 0: its arrival, however late it was made), of those due in the measured time.
  double p50_ms = 0, p99_ms = 0, p999_ms = 0, max_ms = 0;
  int64_t calls = 0, errors = 0;  // Warm-up included.
  int64_t most_in_flight = 0;
  std::string first_error;

  // rate_per_s, p50_ms, p99_ms, p999_ms, max_ms, calls, errors, most_in_flight, and first_error if there was one.
  nlohmann::ordered_json ToJson() const;
};

using Done = std::function<void(const absl::Status&)>;
// Begins call `index` (from 0, each once) and returns at once; calls `done` once, from any thread but its own.
using Begin = std::function<void(int64_t index, Done done)>;

// Returns when every call has been answered. `begin` is called by several threads.
LoadResult RunLoad(const LoadOptions& options, const Begin& begin);

// Client `client` makes call `index` and waits for its end.
using Call = std::function<absl::Status(int client, int64_t index)>;

// The closed loop for calls that block, with a thread a client. REQUIRES: rate == 0.
LoadResult RunBlockingLoad(const LoadOptions& options, const Call& call);

}  // namespace p2::loadgen
