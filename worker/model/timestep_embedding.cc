#include "worker/model/timestep_embedding.h"

#include <ATen/ATen.h>

#include <cmath>

namespace p2::model {

torch::Tensor TimestepEmbedding(const torch::Tensor& t, int64_t dim) {
  const int64_t half = dim / 2;
  const auto options = t.options().dtype(torch::kFloat32);
  const torch::Tensor frequencies = at::exp(at::arange(half, options) * -std::log(10000.0) / static_cast<double>(half));
  const torch::Tensor phases = t.to(torch::kFloat32).unsqueeze(1) * frequencies;  // (B, half)
  std::vector<torch::Tensor> parts = {at::cos(phases), at::sin(phases)};
  if (dim % 2 == 1) parts.push_back(at::zeros({t.size(0), 1}, options));
  return at::cat(parts, 1);
}

}  // namespace p2::model
