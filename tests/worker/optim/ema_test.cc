#include "worker/optim/ema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/spec/power_ema.h"

namespace p2::optim {
namespace {

at::Tensor Scalar(float value) { return at::full({}, value); }

double MaxDifferenceFromFormula(const EmaOptions& options) {
  torch::manual_seed(4);
  at::Tensor params = torch::randn({200});
  Ema ema(options, params);
  at::Tensor expected = params.to(at::kDouble);
  for (int n = 0; n < 40; ++n) {
    params = torch::randn({200});
    const double rate = options.warmup ? std::min(options.rate, (1.0 + n) / (10.0 + n)) : options.rate;
    expected = rate * expected + (1 - rate) * params.to(at::kDouble);
    ema.Update(params, Scalar(static_cast<float>(n + 1)), Scalar(0));
  }
  return (ema.value() - expected).abs().max().item<double>();
}

TEST(EmaTest, FollowsTheFormula) { EXPECT_LT(MaxDifferenceFromFormula({"a", 0.99, false}), 2e-6); }

TEST(EmaTest, WarmsUpByTheNumberOfUpdates) { EXPECT_LT(MaxDifferenceFromFormula({"a", 0.9999, true}), 2e-6); }

TEST(EmaTest, StaysBitForBitOnABadStep) {
  Ema ema({"a", 0.9, true}, torch::randn({100}));
  const at::Tensor before = ema.value().clone();
  ema.Update(torch::randn({100}), Scalar(3), Scalar(1));
  EXPECT_TRUE(at::equal(ema.value(), before));
}

TEST(EmaTest, OfAPowerFunctionHoldsEveryUpdateWithItsShare) {
  torch::manual_seed(4);
  const double gamma = spec::PowerEmaGamma(0.1);
  Ema ema({.name = "a", .gamma = gamma}, torch::full({200}, 1e9));  // Nothing of the start stays.
  at::Tensor expected = torch::zeros({200}, at::kDouble);
  constexpr int kUpdates = 40;
  for (int n = 1; n <= kUpdates; ++n) {
    const at::Tensor params = torch::randn({200});
    expected += (std::pow(n, gamma + 1) - std::pow(n - 1, gamma + 1)) / std::pow(kUpdates, gamma + 1) * params;
    ema.Update(params, Scalar(static_cast<float>(n)), Scalar(0));
    if (n == 1) {
      EXPECT_TRUE(at::equal(ema.value(), params));
    }
  }
  EXPECT_LT((ema.value() - expected).abs().max().item<double>(), 2e-6);
}

TEST(EmaTest, OfAPowerFunctionStaysBitForBitOnABadStepBeforeTheFirstUpdateToo) {
  Ema ema({.name = "a", .gamma = 5}, torch::randn({100}));
  const at::Tensor before = ema.value().clone();
  ema.Update(torch::randn({100}), Scalar(0), Scalar(1));
  EXPECT_TRUE(at::equal(ema.value(), before));
  ema.Update(torch::randn({100}), Scalar(3), Scalar(1));
  EXPECT_TRUE(at::equal(ema.value(), before));
}

TEST(EmaTest, IsNotMovedByLaterChangesOfTheWeights) {
  at::Tensor params = torch::ones({10});
  Ema ema({"a", 0.5, false}, params);
  params.fill_(7);
  EXPECT_TRUE(ema.value().eq(1).all().item<bool>());
}

TEST(EmaTest, HalvesAWeightsShareAfterItsHalfLife) {
  EXPECT_DOUBLE_EQ(EmaRateOfHalfLife(8, 8), 0.5);
  EXPECT_NEAR(std::pow(EmaRateOfHalfLife(1000, 10), 100), 0.5, 1e-12);
}

}  // namespace
}  // namespace p2::optim
