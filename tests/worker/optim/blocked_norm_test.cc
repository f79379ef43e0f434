#include "worker/optim/blocked_norm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace p2::optim {
namespace {

at::Tensor Values(int64_t n) { return at::arange(n).to(at::kDouble).mul(0.7).sin().mul(3).to(at::kFloat); }

TEST(BlockedNormTest, IsTheLength) {
  for (int64_t n : {1, 64, 65536, 65600, 5 * 65536 + 3}) {
    const at::Tensor values = Values(n);
    const double expected = values.to(at::kDouble).square().sum().sqrt().item<double>();
    EXPECT_NEAR(BlockedNorm(values).item<double>(), expected, 1e-6 * expected) << n;
  }
}

TEST(BlockedNormTest, DoesNotDependOnTheThreads) {
  const at::Tensor values = Values(9 * 65536 + 640);
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const float one = BlockedNorm(values).item<float>();
  for (int threads : {2, 3, 4}) {
    at::set_num_threads(threads);
    EXPECT_EQ(BlockedNorm(values).item<float>(), one) << threads << " threads";
  }
  at::set_num_threads(before);
}

TEST(RelativeDistanceTest, IsTheLengthOfTheDifferenceByThatOfTheWeights) {
  for (int64_t n : {1, 65536, 64 * 65536, 130 * 65536 + 77}) {
    const at::Tensor average = Values(n), params = average * 1.5 + 0.25;
    const at::Tensor difference = average.to(at::kDouble) - params.to(at::kDouble);
    const double expected = (difference.norm() / params.to(at::kDouble).norm()).item<double>();
    EXPECT_NEAR(RelativeDistance(average, params).item<double>(), expected, 1e-6 * expected) << n;
    EXPECT_EQ(RelativeDistance(params, params).item<double>(), 0);
  }
}

TEST(RelativeDistanceTest, DoesNotDependOnTheThreads) {
  const at::Tensor average = Values(67 * 65536 + 640), params = average.square();
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const double one = RelativeDistance(average, params).item<double>();
  for (int threads : {2, 3, 4}) {
    at::set_num_threads(threads);
    EXPECT_EQ(RelativeDistance(average, params).item<double>(), one) << threads << " threads";
  }
  at::set_num_threads(before);
}

TEST(BlockedNormTest, CarriesNonFiniteNumbers) {
  at::Tensor values = Values(65600);
  values[65599] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(at::isfinite(BlockedNorm(values)).item<bool>());
  values[3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(at::isfinite(BlockedNorm(values)).item<bool>());
}

}  // namespace
}  // namespace p2::optim
