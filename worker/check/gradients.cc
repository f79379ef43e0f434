#include "worker/check/gradients.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

namespace p2::check {
namespace {

torch::Tensor GradientOf(const std::string& name, const torch::Tensor& parameter) {
  TORCH_CHECK(parameter.grad().defined(), name, " has no gradient");
  return parameter.grad();
}

}  // namespace

std::set<std::string> Degenerate(const nlohmann::json& entry) {
  const auto names = entry.at("degenerate_tensors").get<std::vector<std::string>>();
  return {names.begin(), names.end()};
}

void ZeroGradients(model::Unet& unet) { unet.zero_grad(); }

torch::Tensor FlatGradient(const model::Unet& unet) {
  std::vector<torch::Tensor> parts;
  for (const auto& item : unet.named_parameters())
    parts.push_back(GradientOf(item.key(), item.value()).to(torch::kFloat64).flatten());
  return at::cat(parts);
}

torch::Tensor WithoutKeys(const std::string& name, const torch::Tensor& tensor, const spec::UnetOptions& options) {
  if (!name.ends_with(".qkv.bias")) return tensor;
  const int64_t channels = tensor.numel() / 3;
  const int64_t head = options.num_head_channels > 0 ? options.num_head_channels : channels / options.num_heads;
  const torch::Tensor heads = tensor.reshape({-1, 3, head});
  return at::stack({heads.select(1, 0), heads.select(1, 2)}, 1).reshape({-1});
}

Worst CompareGradientStats(const model::Unet& unet, const nlohmann::json& stats, const GradientRules& rules, bool all) {
  Worst worst;
  const auto parameters = unet.named_parameters();
  for (const auto& [name, entry] : stats.items()) {
    const torch::Tensor* parameter = parameters.find(name);
    if (parameter == nullptr) {
      worst.Add(name + " (no such parameter)", 1, 0);
      continue;
    }
    if (entry.contains("degenerate") && entry.at("degenerate").get<bool>() != (rules.degenerate.count(name) > 0))
      worst.Add(name + " (degenerate in one place only)", 1, 0);
    if (entry.contains("shape") && parameter->sizes().vec() != entry.at("shape").get<std::vector<int64_t>>())
      worst.Add(name + " shape", 1, 0);
    if (rules.degenerate.count(name) > 0) continue;
    worst.Add(name, StatError(GradientOf(name, *parameter), entry), rules.tolerance);
  }
  for (const auto& item : parameters) {
    if (all && !stats.contains(item.key())) worst.Add(item.key() + " (not in the fixtures)", 1, 0);
  }
  return worst;
}

Worst CompareWholeGradients(const model::Unet& unet, const Tensors& file, const GradientRules& rules) {
  Worst worst;
  for (const auto& item : unet.named_parameters()) {
    const std::string& name = item.key();
    if (rules.degenerate.count(name) > 0) continue;
    const torch::Tensor gradient = GradientOf(name, item.value());
    if (file.Has("full." + name)) {
      worst.Add(name,
                RelativeL2(WithoutKeys(name, gradient, rules.options),
                           WithoutKeys(name, file["full." + name], rules.options)),
                rules.tolerance);
      continue;
    }
    const torch::Tensor want = file["strided." + name];
    const int64_t stride = std::max<int64_t>(1, gradient.numel() / 256);
    worst.Add(name, RelativeL2(gradient.flatten().slice(0, 0, std::nullopt, stride).slice(0, 0, 256), want),
              rules.tolerance);
  }
  return worst;
}

}  // namespace p2::check
