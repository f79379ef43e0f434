// Everything of a run that is not a tensor: state.json of a checkpoint.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace p2::checkpoint {

// Samples [begin, end) of the run, by the index g.
struct SampleRange {
  int64_t begin = 0;
  int64_t end = 0;

  friend bool operator==(const SampleRange&, const SampleRange&) = default;
};

struct TrainState {
  int64_t images_seen = 0;  // Position: the next sample's index g.
  int64_t step = 0;         // Steps behind it, those without an update included.
  int64_t updates = 0;      // Of the optimizer and of every EMA: steps less the skipped and the non-finite ones.
  uint64_t seed = 0;
  int64_t batch = 0;
  // Samples that are passed over without an update: their numbers did not stay finite. Ascending, disjoint.
  std::vector<SampleRange> skipped;
  // Numerics fingerprint of the attempt that wrote the checkpoint.
  std::map<std::string, std::string> fingerprint;
  std::string dataset_fingerprint;
  // Sums of the logging interval that was open, over all ranks; opaque here.
  std::vector<double> metric_sums;

  friend bool operator==(const TrainState&, const TrainState&) = default;
};

std::string TrainStateToJson(const TrainState& state);
// DATA_LOSS naming the member that is missing or ill-typed.
absl::StatusOr<TrainState> TrainStateFromJson(absl::string_view text);

}  // namespace p2::checkpoint
