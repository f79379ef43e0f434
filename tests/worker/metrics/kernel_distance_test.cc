#include "worker/metrics/kernel_distance.h"

#include <ATen/ATen.h>

#include <cmath>

#include "gtest/gtest.h"
#include "tests/support/golden.h"

namespace p2::metrics {
namespace {

void ExpectRelative(double got, double want, double tolerance) { EXPECT_NEAR(got, want, tolerance * std::abs(want)); }

TEST(KernelDistanceTest, EqualsTheReference) {
  const nlohmann::json golden = testing::GoldenJson("metrics.json").at("kid");
  const testing::GoldenTensors tensors("metrics.safetensors");
  ASSERT_FALSE(golden.empty());
  for (const auto& [name, want] : golden.items()) {
    const torch::Tensor a = tensors[name + ".a"].to(torch::kFloat64), b = tensors[name + ".b"].to(torch::kFloat64);
    const MmdSquared mmd = PolynomialMmd(a, b);
    ExpectRelative(mmd.unbiased, want.at("mmd2_unbiased_full"), 1e-10);
    ExpectRelative(mmd.biased, want.at("mmd2_biased_full"), 1e-10);
    const KernelDistance kid = SubsetKernelDistance(a, b, tensors[name + ".kid_idx_a"], tensors[name + ".kid_idx_b"]);
    ExpectRelative(kid.mean, want.at("kid_cleanfid_subsets_float64"), 1e-10);
    ASSERT_EQ(kid.per_subset.size(), want.at("per_subset").size());
    for (size_t i = 0; i < kid.per_subset.size(); ++i)
      ExpectRelative(kid.per_subset[i], want.at("per_subset")[i], 1e-10);
  }
}

TEST(KernelDistanceTest, RowBlocksAddUpToTheWhole) {
  const torch::Tensor a = at::randn({2100, 3}, torch::kFloat64), b = at::randn({5, 3}, torch::kFloat64);
  const auto mean = [](const torch::Tensor& x, const torch::Tensor& y) {
    return at::pow(at::matmul(x, y.t()) / 3 + 1, 3).mean().item<double>();
  };
  ExpectRelative(PolynomialMmd(a, b).biased, mean(a, a) + mean(b, b) - 2 * mean(a, b), 1e-9);
}

TEST(KernelDistanceTest, RefusesSubsetsThatAreNotThere) {
  const torch::Tensor a = at::randn({4, 3}), rows = at::tensor({0, 9}).view({1, 2});
  EXPECT_THROW(SubsetKernelDistance(a, a, rows, rows), c10::Error);
  EXPECT_THROW(PolynomialMmd(a, a.to(torch::kFloat64)), c10::Error);
}

}  // namespace
}  // namespace p2::metrics
