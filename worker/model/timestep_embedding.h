// Sinusoidal embedding of the timestep.
#pragma once

#include <torch/types.h>

#include <cstdint>

namespace p2::model {

// (cos(t f_j), sin(t f_j)), f_j = 10000^(-j / half), j = 0 … half - 1, half = dim / 2; an odd `dim` ends in a zero.
// t (B), any dtype, fractions allowed. Returns (B, dim) float32.
torch::Tensor TimestepEmbedding(const torch::Tensor& t, int64_t dim);

}  // namespace p2::model
