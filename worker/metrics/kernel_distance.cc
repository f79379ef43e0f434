#include "worker/metrics/kernel_distance.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>

namespace p2::metrics {
namespace {

constexpr int64_t kBlockRows = 2048;

torch::Tensor Kernel(const torch::Tensor& x, const torch::Tensor& y) {
  return at::pow(at::matmul(x, y.t()) / static_cast<double>(x.size(1)) + 1, 3);
}

double Sum(const torch::Tensor& x) { return x.sum().item<double>(); }

double KernelSum(const torch::Tensor& x, const torch::Tensor& y) {
  double sum = 0;
  for (int64_t i = 0; i < x.size(0); i += kBlockRows) {
    for (int64_t j = 0; j < y.size(0); j += kBlockRows)
      sum += Sum(Kernel(x.slice(0, i, std::min(i + kBlockRows, x.size(0))),
                        y.slice(0, j, std::min(j + kBlockRows, y.size(0)))));
  }
  return sum;
}

double DiagonalSum(const torch::Tensor& x) {
  return Sum(at::pow(at::square(x).sum(1) / static_cast<double>(x.size(1)) + 1, 3));
}

void CheckFeatures(const torch::Tensor& a, const torch::Tensor& b) {
  TORCH_CHECK(a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(1), "features are (N, D) and (M, D), not ", a.sizes(),
              " and ", b.sizes());
  TORCH_CHECK(a.scalar_type() == b.scalar_type() && a.is_floating_point(), "features have the types ", a.scalar_type(),
              " and ", b.scalar_type());
  TORCH_CHECK(a.size(0) >= 2 && b.size(0) >= 2, "the kernel distance needs 2 images a side");
}

}  // namespace

MmdSquared PolynomialMmd(const torch::Tensor& a, const torch::Tensor& b) {
  CheckFeatures(a, b);
  const torch::NoGradGuard no_grad;
  const double n = static_cast<double>(a.size(0)), m = static_cast<double>(b.size(0));
  const double aa = KernelSum(a, a), bb = KernelSum(b, b), ab = KernelSum(a, b) / (n * m);
  return {(aa - DiagonalSum(a)) / (n * (n - 1)) + (bb - DiagonalSum(b)) / (m * (m - 1)) - 2 * ab,
          aa / (n * n) + bb / (m * m) - 2 * ab};
}

KernelDistance SubsetKernelDistance(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& rows_a,
                                    const torch::Tensor& rows_b) {
  CheckFeatures(a, b);
  TORCH_CHECK(rows_a.dim() == 2 && rows_a.sizes() == rows_b.sizes() && rows_a.size(0) >= 1 && rows_a.size(1) >= 2,
              "subsets are (S, m) twice, S >= 1, m >= 2, not ", rows_a.sizes(), " and ", rows_b.sizes());
  const torch::NoGradGuard no_grad;
  const double m = static_cast<double>(rows_a.size(1));
  KernelDistance result;
  for (int64_t s = 0; s < rows_a.size(0); ++s) {
    const torch::Tensor x = a.index_select(0, rows_a[s]), y = b.index_select(0, rows_b[s]);  // (m, D)
    const double within = Sum(Kernel(x, x)) - DiagonalSum(x) + Sum(Kernel(y, y)) - DiagonalSum(y);
    result.per_subset.push_back((within / (m - 1) - 2 * Sum(Kernel(x, y)) / m) / m);
    result.mean += result.per_subset.back() / static_cast<double>(rows_a.size(0));
  }
  return result;
}

}  // namespace p2::metrics
