// A model's gradients beside the reference's.
#pragma once

#include <torch/types.h>

#include <set>
#include <string>

#include "common/spec/unet_shape.h"
#include "nlohmann/json.hpp"
#include "worker/check/fixtures.h"
#include "worker/check/report.h"
#include "worker/model/unet.h"

namespace p2::check {

struct GradientRules {
  spec::UnetOptions options;
  std::set<std::string> degenerate;  // Exact gradient 0: rounding noise, not compared.
  double tolerance = 0;
};

// The names under "degenerate_tensors".
std::set<std::string> Degenerate(const nlohmann::json& entry);

void ZeroGradients(model::Unet& unet);

// All gradients in parameter order, float64.
torch::Tensor FlatGradient(const model::Unet& unet);

// Without the key third, per head, of a qkv bias: softmax cancels it, so that its gradient is rounding noise. Other
// tensors stay as they are.
torch::Tensor WithoutKeys(const std::string& name, const torch::Tensor& tensor, const spec::UnetOptions& options);

// Stat blocks by parameter name. A parameter that `stats` lacks counts as a failure where `all`; one that the model
// lacks always.
Worst CompareGradientStats(const model::Unet& unet, const nlohmann::json& stats, const GradientRules& rules,
                           bool all = true);

// `full.NAME`, or `strided.NAME`: 256 elements at the multiples of max(1, n / 256).
Worst CompareWholeGradients(const model::Unet& unet, const Tensors& file, const GradientRules& rules);

}  // namespace p2::check
