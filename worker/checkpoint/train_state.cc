#include "worker/checkpoint/train_state.h"

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"
#include "worker/checkpoint/json_number.h"

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
    P2_ASSIGN_OR_RETURN(state.images_seen, WholeNumber(json.at("images_seen"), "images_seen"));
    P2_ASSIGN_OR_RETURN(state.step, WholeNumber(json.at("step"), "step"));
    P2_ASSIGN_OR_RETURN(state.updates, WholeNumber(json.at("updates"), "updates"));
    P2_ASSIGN_OR_RETURN(state.seed, WholeNumber<uint64_t>(json.at("seed"), "seed"));
    P2_ASSIGN_OR_RETURN(state.batch, WholeNumber(json.at("batch"), "batch"));
    for (const Json& range : json.at("skipped_ranges")) {
      SampleRange& skipped = state.skipped.emplace_back();
      P2_ASSIGN_OR_RETURN(skipped.begin, WholeNumber(range.at(0), "skipped_ranges"));
      P2_ASSIGN_OR_RETURN(skipped.end, WholeNumber(range.at(1), "skipped_ranges"));
    }
    json.at("fingerprint").get_to(state.fingerprint);
    json.at("dataset_fingerprint").get_to(state.dataset_fingerprint);
    json.at("metric_sums").get_to(state.metric_sums);
    return state;
  } catch (const Json::exception& e) {
    return absl::DataLossError(e.what());
  }
}

}  // namespace p2::checkpoint
