#include "tests/support/golden_models.h"

#include <ATen/Parallel.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "tests/support/golden.h"

namespace p2::testing {
namespace {

template <typename T, typename Parse>
std::vector<T> ParseList(const std::string& text, Parse parse) {
  std::vector<T> values;
  for (const auto part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    T value{};
    TORCH_CHECK(parse(part, &value), text);
    values.push_back(value);
  }
  return values;
}

}  // namespace

spec::UnetOptions UnetOptionsFromArgs(const nlohmann::json& args) {
  spec::UnetOptions options;
  options.image_size = args.at("image_size");
  options.model_channels = args.at("num_channels");
  options.out_channels = args.at("learn_sigma") ? 6 : 3;
  options.channel_mult = ParseList<double>(args.at("channel_mult"), absl::SimpleAtod);
  options.num_res_blocks = args.at("num_res_blocks");
  options.attention_resolutions = ParseList<int>(args.at("attention_resolutions"), absl::SimpleAtoi<int>);
  options.num_heads = args.at("num_heads");
  options.num_head_channels = args.at("num_head_channels");
  options.resblock_updown = args.at("resblock_updown");
  options.use_scale_shift_norm = args.at("use_scale_shift_norm");
  options.dropout = args.at("dropout");
  return options;
}

spec::UnetOptions GoldenUnetOptions(const std::string& name) {
  const nlohmann::json models = GoldenJson("models.json");
  for (const nlohmann::json& config : models.at("configs")) {
    if (config.at("name") == name) return UnetOptionsFromArgs(config.at("args"));
  }
  TORCH_CHECK(false, "models.json has no configuration ", name);
}

std::shared_ptr<model::Unet> GoldenTinyUnet() {
  at::set_num_threads(1);
  const torch::NoGradGuard no_grad;
  auto unet = std::make_shared<model::Unet>(GoldenUnetOptions("tiny32"));
  const GoldenTensors weights("tiny_weights.safetensors");
  for (auto& parameter : unet->named_parameters()) parameter.value().copy_(weights[parameter.key()]);
  return unet;
}

}  // namespace p2::testing
