#include "worker/optim/flat_parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

namespace p2::optim {
namespace {

torch::nn::Sequential SmallNet() {
  torch::manual_seed(3);
  return torch::nn::Sequential(torch::nn::Linear(5, 7), torch::nn::Linear(7, 3));
}

TEST(FlatLayoutTest, StartsEachViewAtAMultipleOf64Elements) {
  auto net = SmallNet();
  const FlatLayout layout(*net);
  ASSERT_EQ(layout.views().size(), 4u);
  EXPECT_EQ(layout.views()[0].name, "0.weight");
  for (const FlatView& view : layout.views()) EXPECT_EQ(view.offset % 64, 0) << view.name;
  EXPECT_EQ(layout.num_parameters(), 5 * 7 + 7 + 7 * 3 + 3);
  EXPECT_EQ(layout.size(), 4 * 64);
}

TEST(FlatParametersTest, KeepsTheValuesAndSharesThemWithTheModule) {
  auto net = SmallNet();
  std::vector<at::Tensor> before;
  for (const auto& p : net->parameters()) before.push_back(p.detach().clone());
  FlatParameters flat(*net, at::kCPU);
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(at::equal(net->parameters()[i], before[i]));

  flat.params().fill_(2.0f);
  for (const auto& p : net->parameters()) EXPECT_TRUE(p.eq(2.0f).all().item<bool>());
}

TEST(FlatParametersTest, CollectsGradientsOfEveryBackwardInOneBufferAndLeavesThePaddingZero) {
  auto net = SmallNet();
  FlatParameters flat(*net, at::kCPU);
  const at::Tensor x = torch::ones({2, 5});
  net->forward(x).sum().backward();
  const at::Tensor once = flat.grads().clone();
  net->forward(x).sum().backward();
  EXPECT_TRUE(at::allclose(flat.grads(), 2 * once));
  EXPECT_GT(once.abs().sum().item<float>(), 0);
  EXPECT_EQ(once.slice(0, 5 * 7, 64).abs().sum().item<float>(), 0);
  flat.ZeroGrads();
  for (const auto& p : net->parameters()) EXPECT_EQ(p.grad().abs().sum().item<float>(), 0);
}

TEST(FlatLayoutTest, BindsASecondModuleToAnAverageWithoutCopying) {
  auto net = SmallNet();
  auto shadow = SmallNet();
  FlatParameters flat(*net, at::kCPU);
  const at::Tensor average = flat.params().clone();
  flat.layout().Bind(*shadow, average);
  average.mul_(3);
  EXPECT_TRUE(at::equal(shadow->parameters()[0], net->parameters()[0] * 3));
}

}  // namespace
}  // namespace p2::optim
