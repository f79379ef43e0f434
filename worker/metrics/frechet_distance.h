// The Frechet distance between two sets of features (FID when they are Inception's), in float64:
//   |mu_a - mu_b|^2 + tr S_a + tr S_b - 2 tr (S_a S_b)^(1/2)
// with tr (S_a S_b)^(1/2) as the sum of the singular values of S_a^(1/2) S_b^(1/2), each root by a symmetric
// eigendecomposition: real and exact in rank where a general matrix square root is neither.
//
// Letters: N images, D features.
#pragma once

#include <torch/types.h>

#include <cstdint>

namespace p2::metrics {

struct FeatureStatistics {
  int64_t count = 0;         // N
  torch::Tensor mean;        // (D) float64
  torch::Tensor covariance;  // (D, D) float64, divided by N - 1
};

// features (N, D), any floating type. Throws c10::Error unless N >= 2.
FeatureStatistics MakeFeatureStatistics(const torch::Tensor& features);

struct FrechetDistance {
  double distance = 0;  // May be a rounding error below 0 for equal sets.
  double mean_term = 0;
  double trace_a = 0;
  double trace_b = 0;
  double trace_sqrt = 0;  // tr (S_a S_b)^(1/2)
};

// Throws c10::Error if the dimensions differ or something is not finite.
FrechetDistance CalcFrechetDistance(const FeatureStatistics& a, const FeatureStatistics& b);

}  // namespace p2::metrics
