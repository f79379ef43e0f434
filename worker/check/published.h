// The published code's .pt files as tensors by name.
#pragma once

#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "worker/check/reference_model.h"
#include "worker/checkpoint/published_files.h"

namespace p2::check {

struct StateDictFile {
  std::vector<std::string> order;
  NamedTensors tensors;  // float32
};

// Throws what names the file if it cannot be read or holds something else.
StateDictFile ReadStateDictFile(const std::string& path);

struct OptimizerFile {
  checkpoint::PublishedOptimizer settings;
  NamedTensors exp_avg;
  NamedTensors exp_avg_sq;
};

struct NamedShape {
  std::string name;
  std::vector<int64_t> shape;
};

// `parameters`: of the model, in its order.
OptimizerFile ReadOptimizerFile(const std::string& path, const std::vector<NamedShape>& parameters);

}  // namespace p2::check
