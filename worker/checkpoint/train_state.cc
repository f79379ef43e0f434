#include "worker/checkpoint/train_state.h"

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace p2::checkpoint {
namespace {

using Json = nlohmann::ordered_json;
constexpr char kFormat[] = "p2-train-state";

}  // namespace

std::string TrainStateToJson(const TrainState& state) {
  Json skipped = Json::array();
  for (const SampleRange& range : state.skipped) skipped.push_back({range.begin, range.end});
  return Json{{"format", kFormat},
              {"images_seen", state.images_seen},
              {"step", state.step},
              {"updates", state.updates},
              {"ema_updates", state.updates},
              {"seed", state.seed},
              {"batch", state.batch},
              {"skipped_ranges", skipped},
              {"fingerprint", state.fingerprint},
              {"dataset_fingerprint", state.dataset_fingerprint},
              {"metric_sums", state.metric_sums}}
      .dump(2);
}

absl::StatusOr<TrainState> TrainStateFromJson(absl::string_view text) {
  try {
    const Json json = Json::parse(text.begin(), text.end());
    if (json.at("format") != kFormat) return absl::DataLossError("its format is not p2-train-state");
    TrainState state;
    json.at("images_seen").get_to(state.images_seen);
    json.at("step").get_to(state.step);
    json.at("updates").get_to(state.updates);
    json.at("seed").get_to(state.seed);
    json.at("batch").get_to(state.batch);
    for (const Json& range : json.at("skipped_ranges")) state.skipped.push_back({range.at(0), range.at(1)});
    json.at("fingerprint").get_to(state.fingerprint);
    json.at("dataset_fingerprint").get_to(state.dataset_fingerprint);
    json.at("metric_sums").get_to(state.metric_sums);
    return state;
  } catch (const Json::exception& e) {
    return absl::DataLossError(e.what());
  }
}

}  // namespace p2::checkpoint
