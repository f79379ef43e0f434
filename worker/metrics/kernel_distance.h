// The kernel distance between two sets of features (KID when they are Inception's): the squared maximum mean
// discrepancy under k(x, y) = (x.y / D + 1)^3. Not multiplied by 1000.
//
// Letters: N and M images, D features, S subsets of m rows. Computed in the features' own type, as clean-fid does: give
// float64 for float64.
#pragma once

#include <torch/types.h>

#include <vector>

namespace p2::metrics {

struct MmdSquared {
  double unbiased = 0;  // sum_{i != j} k_aa / (N(N-1)) + sum_{i != j} k_bb / (M(M-1)) - 2 mean k_ab
  double biased = 0;    // With the diagonals: mean k_aa + mean k_bb - 2 mean k_ab
};

// Over all rows, in row blocks: memory grows with N + M. a (N, D), b (M, D). Throws c10::Error unless N, M >= 2, the
// types are one and the D are equal.
MmdSquared PolynomialMmd(const torch::Tensor& a, const torch::Tensor& b);

struct KernelDistance {
  double mean = 0;
  std::vector<double> per_subset;  // S
};

// clean-fid's estimate over subsets, each [(sum_{i != j} k_aa + sum_{i != j} k_bb) / (m - 1) - 2 sum k_ab / m] / m.
// rows_a, rows_b (S, m) int64: the rows of each subset. Throws c10::Error as above, unless m >= 2, or if a row is not
// there.
KernelDistance SubsetKernelDistance(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& rows_a,
                                    const torch::Tensor& rows_b);

}  // namespace p2::metrics
