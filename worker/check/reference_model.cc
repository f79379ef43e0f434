#include "worker/check/reference_model.h"

#include <ATen/ATen.h>

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace p2::check {
namespace {

std::vector<int> Integers(const std::string& text) {
  std::vector<int> values;
  for (const auto part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    int value = 0;
    TORCH_CHECK(absl::SimpleAtoi(part, &value), "\"", text, "\" is no list of integers");
    values.push_back(value);
  }
  return values;
}

}  // namespace

spec::UnetOptions UnetOptionsFromArgs(const nlohmann::json& args) {
  for (const char* absent : {"class_cond", "use_fp16", "use_new_attention_order"})
    TORCH_CHECK(!args.value(absent, false), absent, " is not in p2");
  const std::vector<int> mult = Integers(args.at("channel_mult"));
  spec::UnetOptions options;
  options.image_size = args.at("image_size");
  options.model_channels = args.at("num_channels");
  options.out_channels = args.at("learn_sigma").get<bool>() ? 6 : 3;
  options.channel_mult.assign(mult.begin(), mult.end());
  options.num_res_blocks = args.at("num_res_blocks");
  options.attention_resolutions = Integers(args.at("attention_resolutions"));
  const int heads = args.at("num_heads"), head_channels = args.at("num_head_channels");
  options.num_heads = heads;
  options.num_head_channels = head_channels == -1 ? 0 : head_channels;  // -1 is the published code's "unset".
  options.resblock_updown = args.at("resblock_updown");
  options.use_scale_shift_norm = args.at("use_scale_shift_norm");
  options.dropout = args.at("dropout");
  return options;
}

std::shared_ptr<model::Unet> MakeUnet(const spec::UnetOptions& options, const NamedTensors& weights,
                                      torch::Device device) {
  const torch::NoGradGuard no_grad;
  auto unet = std::make_shared<model::Unet>(options);
  auto parameters = unet->named_parameters();
  for (const auto& [name, value] : weights) TORCH_CHECK(parameters.contains(name), "the model has no parameter ", name);
  for (auto& item : parameters) {
    const auto found = weights.find(item.key());
    TORCH_CHECK(found != weights.end(), "the weights lack ", item.key());
    TORCH_CHECK(found->second.sizes() == item.value().sizes(), item.key(), " is ", found->second.sizes(), ", not ",
                item.value().sizes());
    item.value().copy_(found->second);
  }
  unet->to(device);
  return unet;
}

std::shared_ptr<model::Unet> TinyUnet(const Fixtures& fixtures) {
  const nlohmann::json tiny = fixtures.Json("tiny.json");
  // "NAME (remarks)"
  const std::vector<std::string> words = absl::StrSplit(tiny.at("weights_file").get<std::string>(), ' ');
  const Tensors file = fixtures.Tensors(words[0]);
  NamedTensors weights;
  for (const std::string& name : file.Names()) weights[name] = file[name];
  return MakeUnet(UnetOptionsFromArgs(tiny.at("model_args")), weights, fixtures.device());
}

Process MakeProcess(const std::string& noise_schedule, int steps, const std::string& respacing, bool learn_sigma,
                    torch::Device device) {
  const auto kind = spec::ParseScheduleKind(noise_schedule);
  TORCH_CHECK(kind.ok(), std::string(kind.status().message()));
  const auto base = spec::MakeNoiseSchedule(*kind, steps);
  TORCH_CHECK(base.ok(), std::string(base.status().message()));
  auto spaced = spec::MakeSpacedSchedule(*base, respacing);
  TORCH_CHECK(spaced.ok(), std::string(spaced.status().message()));
  Process process{*std::move(spaced), nullptr};
  process.diffusion = std::make_unique<diffusion::GaussianDiffusion>(
      process.spaced, learn_sigma ? diffusion::VarianceKind::kLearnedRange : diffusion::VarianceKind::kFixedLarge,
      device);
  return process;
}

Process MakeProcess(const nlohmann::json& args, torch::Device device) {
  return MakeProcess(args.at("noise_schedule"), args.at("steps"), args.at("timestep_respacing"), args.at("learn_sigma"),
                     device);
}

int BaseSteps(const Fixtures& fixtures, const nlohmann::json& entry) {
  for (const char* key : {"diffusion_steps", "steps"}) {
    if (entry.contains(key)) return entry.at(key);
  }
  return fixtures.Json("tiny.json").at("losses").at(0).at("diffusion_args").at("steps");
}

}  // namespace p2::check
