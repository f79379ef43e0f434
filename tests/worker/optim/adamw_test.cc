#include "worker/optim/adamw.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <limits>

namespace p2::optim {
namespace {

at::Tensor Flag(float value) { return at::full({}, value); }

// The formula of adamw.h in double.
struct Reference {
  AdamWOptions o;
  at::Tensor p, m = at::zeros_like(p), v = at::zeros_like(p);
  int n = 0;
  void Step(const at::Tensor& g) {
    ++n;
    p = p * (1 - o.learning_rate * o.weight_decay);
    m = o.beta1 * m + (1 - o.beta1) * g;
    v = o.beta2 * v + (1 - o.beta2) * g * g;
    p = p - o.learning_rate * (m / (1 - std::pow(o.beta1, n))) / ((v / (1 - std::pow(o.beta2, n))).sqrt() + o.epsilon);
  }
};

TEST(AdamWTest, FollowsTheFormulaOverManySteps) {
  torch::manual_seed(1);
  const AdamWOptions options{.learning_rate = 1e-2, .weight_decay = 0.1};
  at::Tensor params = torch::randn({1000});
  Reference reference{.o = options, .p = params.to(at::kDouble)};
  AdamW adamw(options, params);
  for (int step = 0; step < 50; ++step) {
    const at::Tensor grads = torch::randn({1000});
    adamw.Step(grads, Flag(0));
    reference.Step(grads.to(at::kDouble));
  }
  EXPECT_LT((params - reference.p).abs().max().item<double>(), 1e-5);
  EXPECT_LT((adamw.m() - reference.m).abs().max().item<double>(), 1e-6);
  EXPECT_LT((adamw.v() - reference.v).abs().max().item<double>(), 1e-6);
  EXPECT_EQ(adamw.updates().item<float>(), 50);
}

TEST(AdamWTest, TakesTheRateFromATensorThatMayChange) {
  const AdamWOptions options{.learning_rate = 0.25};  // As exact in fp32 as in double.
  const at::Tensor grads = torch::randn({128});
  at::Tensor params = torch::ones({128}), same = params.clone();
  AdamW adamw(options, params), reference(options, same);
  const at::Tensor rate = Flag(0.25f);
  adamw.StepAt(rate, grads, Flag(0));
  reference.Step(grads, Flag(0));
  EXPECT_TRUE(at::equal(params, same));
  rate.fill_(0.125);
  adamw.StepAt(rate, grads, Flag(0));
  reference.Step(grads, Flag(0), /*rate_scale=*/0.5);
  EXPECT_TRUE(at::equal(params, same));
  adamw.StepAt(rate, grads, Flag(1));
  EXPECT_TRUE(at::equal(params, same));
  EXPECT_EQ(adamw.updates().item<float>(), 2);
}

TEST(AdamWTest, ChangesNothingWhenTheGradientIsNotFinite) {
  at::Tensor params = torch::ones({128});
  AdamW adamw({}, params);
  adamw.Step(torch::ones({128}), Flag(0));
  const at::Tensor p = params.clone(), m = adamw.m().clone(), v = adamw.v().clone();
  adamw.Step(torch::full({128}, std::numeric_limits<float>::quiet_NaN()), Flag(1));
  EXPECT_TRUE(at::equal(params, p));
  EXPECT_TRUE(at::equal(adamw.m(), m));
  EXPECT_TRUE(at::equal(adamw.v(), v));
  EXPECT_EQ(adamw.updates().item<float>(), 1);
}

TEST(AdamWTest, GivesTheSameBitsWhenTheBufferIsCutAtAViewBoundary) {
  torch::manual_seed(2);
  const at::Tensor start = torch::randn({64 * 5});
  at::Tensor whole = start.clone(), cut = start.clone();
  at::Tensor left = cut.narrow(0, 0, 192), right = cut.narrow(0, 192, 128);
  AdamW all({}, whole), first({}, left), second({}, right);
  for (int step = 0; step < 5; ++step) {
    const at::Tensor grads = torch::randn({64 * 5});
    all.Step(grads, Flag(0));
    first.Step(grads.narrow(0, 0, 192), Flag(0));
    second.Step(grads.narrow(0, 192, 128), Flag(0));
  }
  EXPECT_TRUE(at::equal(whole, cut));
}

}  // namespace
}  // namespace p2::optim
