#include "worker/metrics/frechet_distance.h"

#include <ATen/ATen.h>

#include <limits>
#include <tuple>

namespace p2::metrics {
namespace {

// The root of a symmetric positive semidefinite matrix. Eigenvalues within rounding of 0 count as 0: their roots would
// be 1e8 times as large.
torch::Tensor SymmetricRoot(const torch::Tensor& matrix) {
  const auto [values, vectors] = at::linalg_eigh(matrix);
  const double floor =
      values.abs().max().item<double>() * static_cast<double>(matrix.size(0)) * std::numeric_limits<double>::epsilon();
  const torch::Tensor roots = at::where(values > floor, values, at::zeros_like(values)).sqrt();
  return at::matmul(vectors * roots, vectors.t());
}

}  // namespace

FeatureStatistics MakeFeatureStatistics(const torch::Tensor& features) {
  TORCH_CHECK(features.dim() == 2, "features are (N, D), not ", features.sizes());
  TORCH_CHECK(features.size(0) >= 2, "a covariance needs 2 images; there are ", features.size(0));
  const torch::Tensor x = features.detach().to(torch::kFloat64);
  FeatureStatistics statistics;
  statistics.count = x.size(0);
  statistics.mean = x.mean(0);
  const torch::Tensor centered = x - statistics.mean;
  statistics.covariance = at::matmul(centered.t(), centered) / static_cast<double>(x.size(0) - 1);
  return statistics;
}

FrechetDistance CalcFrechetDistance(const FeatureStatistics& a, const FeatureStatistics& b) {
  TORCH_CHECK(a.mean.sizes() == b.mean.sizes(), "one set has ", a.mean.size(0), " features, the other ",
              b.mean.size(0));
  TORCH_CHECK(at::isfinite(a.covariance).all().item<bool>() && at::isfinite(b.covariance).all().item<bool>(),
              "features are not finite");
  FrechetDistance result;
  result.mean_term = at::square(a.mean - b.mean).sum().item<double>();
  result.trace_a = a.covariance.trace().item<double>();
  result.trace_b = b.covariance.trace().item<double>();
  const torch::Tensor product = at::matmul(SymmetricRoot(a.covariance), SymmetricRoot(b.covariance));
  result.trace_sqrt = at::linalg_svdvals(product).sum().item<double>();
  result.distance = result.mean_term + result.trace_a + result.trace_b - 2 * result.trace_sqrt;
  return result;
}

}  // namespace p2::metrics
