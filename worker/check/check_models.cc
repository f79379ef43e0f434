// Section 3: names, shapes, order and number of the parameters of every configuration. Exact.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "worker/check/reference_model.h"
#include "worker/check/sections.h"

namespace p2::check {
namespace {

std::vector<int> AttentionFactors(const spec::UnetOptions& options) {
  std::vector<int> factors;
  for (const int resolution : options.attention_resolutions) factors.push_back(options.image_size / resolution);
  return factors;
}

// Names what differs first, "" if nothing does.
std::string Difference(const std::vector<spec::ParameterShape>& got, const nlohmann::json& want) {
  for (size_t i = 0; i < std::max(got.size(), want.size()); ++i) {
    if (i >= got.size()) return absl::StrCat("p2 has no ", want[i].at(0).get<std::string>());
    if (i >= want.size()) return absl::StrCat("p2 has ", got[i].name, " besides");
    if (got[i].name != want[i].at(0).get<std::string>() || got[i].shape != want[i].at(1).get<std::vector<int64_t>>())
      return absl::StrCat(got[i].name, " (", absl::StrJoin(got[i].shape, ", "), ") at the place of ",
                          want[i].at(0).get<std::string>());
  }
  return "";
}

void CheckConfig(const nlohmann::json& config, const std::string& name, Report& report) {
  const nlohmann::json& args = config.at("args");
  if (config.value("is_error", false)) {
    bool refused = false;
    try {
      refused = !spec::CheckUnet(UnetOptionsFromArgs(args)).empty();
    } catch (const c10::Error&) {  // Arguments that do not parse: refused too.
      refused = true;
    }
    return report.Equal(name, refused, "p2 accepts it");
  }
  const spec::UnetOptions options = UnetOptionsFromArgs(args);
  const auto walked = spec::WalkUnet(options);
  TORCH_CHECK(walked.ok(), std::string(walked.status().message()));
  // The module itself, as training has it; its values are never touched.
  const model::Unet unet(options);
  std::vector<spec::ParameterShape> parameters;
  for (const auto& item : unet.named_parameters()) parameters.push_back({item.key(), item.value().sizes().vec()});
  std::string difference = Difference(parameters, config.at("state_dict"));
  if (difference.empty() && *walked != parameters) difference = "the model and its torch-free walk differ";
  report.Equal(absl::StrCat(name, "/state_dict"), difference.empty(), difference);

  Worst counts;
  const auto count = [&](const char* key, int64_t got) {
    counts.Add(key, static_cast<double>(std::abs(got - config.at(key).get<int64_t>())), 0);
  };
  count("num_parameters", spec::CountParameters(parameters));
  count("num_keys", static_cast<int64_t>(parameters.size()));
  count("num_buffers", static_cast<int64_t>(unet.buffers().size()));
  count("num_attention_blocks", std::count_if(parameters.begin(), parameters.end(), [](const auto& parameter) {
          return parameter.name.ends_with(".qkv.weight");
        }));
  report.Add(absl::StrCat(name, "/counts"), counts);

  const nlohmann::json& resolved = config.at("resolved");
  const std::vector<double> mult =
      options.channel_mult.empty() ? spec::PublishedChannelMult(options.image_size) : options.channel_mult;
  const int upsample = args.value("num_heads_upsample", -1);
  report.Equal(absl::StrCat(name, "/resolved"),
               mult == resolved.at("channel_mult").get<std::vector<double>>() &&
                   AttentionFactors(options) == resolved.at("attention_ds").get<std::vector<int>>() &&
                   options.out_channels == resolved.at("out_channels").get<int>() &&
                   (upsample == -1 ? options.num_heads : upsample) == resolved.at("num_heads_upsample").get<int>(),
               "other levels, attention or output channels");
}

}  // namespace

void CheckModels(const Fixtures& fixtures, Report& report) {
  const nlohmann::json json = fixtures.Json("models.json");
  for (const nlohmann::json& config : json.at("configs")) {
    const std::string name = config.at("name");
    report.Case(name, [&] { CheckConfig(config, name, report); });
  }
  // The 256-pixel model of the paper with 128 channels; what varies is named.
  for (const nlohmann::json& entry : json.at("parameter_counts_256px")) {
    const std::string attention = entry.at("attention_resolutions");
    const bool updown = entry.at("resblock_updown");
    const std::string name = absl::StrCat("parameter_counts_256px/", attention, "/",
                                          entry.at("num_res_blocks").get<int>(), "/", updown ? "updown" : "plain");
    report.Case(name, [&] {
      nlohmann::json args;
      for (const nlohmann::json& config : json.at("configs")) {
        if (config.at("name") == "a_default") args = config.at("args");
      }
      TORCH_CHECK(!args.is_null(), "models.json has no configuration a_default to vary");
      args["attention_resolutions"] = attention;
      args["num_res_blocks"] = entry.at("num_res_blocks");
      args["resblock_updown"] = updown;
      const spec::UnetOptions options = UnetOptionsFromArgs(args);
      const auto walked = spec::WalkUnet(options);
      TORCH_CHECK(walked.ok(), std::string(walked.status().message()));
      const int64_t want = entry.at("num_parameters");
      report.Equal(absl::StrCat(name, "/factors"),
                   AttentionFactors(options) == entry.at("attention_factors").get<std::vector<int>>(), "other factors");
      report.Add(name, static_cast<double>(std::abs(spec::CountParameters(*walked) - want)), 0);
    });
  }
}

}  // namespace p2::check
