#include "worker/dist/c10d_reducer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <mutex>

#include "tests/worker/dist/gang.h"

namespace p2::dist {
namespace {

torch::nn::Sequential Net() {
  torch::nn::Sequential net(torch::nn::Linear(6, 9), torch::nn::Tanh(), torch::nn::Linear(9, 2));
  torch::NoGradGuard no_grad;
  int64_t i = 0;
  for (auto& p : net->parameters()) p.copy_(at::arange(p.numel()).reshape(p.sizes()).mul(0.37 * ++i).sin());
  return net;
}

at::Tensor Inputs() { return at::arange(12 * 6).reshape({12, 6}).to(at::kFloat).mul(0.11).cos(); }

std::vector<at::Tensor> DefinedGrads(torch::nn::Sequential& net) {
  std::vector<at::Tensor> grads;
  for (auto& p : net->parameters()) grads.push_back(p.mutable_grad() = at::zeros_like(p));
  return grads;
}

std::vector<at::Tensor> GradsOfOneProcess(int steps) {
  auto net = Net();
  auto grads = DefinedGrads(net);
  for (int i = 0; i < steps; ++i) {
    for (auto& g : grads) g.zero_();
    net->forward(Inputs()).square().sum().backward();
  }
  return grads;
}

class C10dReducerTest : public ::testing::TestWithParam<int> {};

TEST_P(C10dReducerTest, SumsGradientsOverRanksAndMicrobatchesWithoutDividing) {
  const auto expected = GradsOfOneProcess(1);
  RunGang(GetParam(), [&](ProcessGroup& group) {
    auto net = Net();
    auto grads = DefinedGrads(net);
    auto reducer = MakeC10dReducer(group, net->parameters());
    const int64_t begin = group.rank() * 12 / group.world_size(), end = (group.rank() + 1) * 12 / group.world_size();
    for (int step = 0; step < 3; ++step) {
      for (auto& g : grads) g.zero_();
      for (int64_t i = begin; i < end; i += 2) {
        const at::Tensor x = Inputs().slice(0, i, std::min(i + 2, end));
        ASSERT_TRUE(reducer->Backward(net->forward(x).square().sum(), i + 2 >= end).ok());
      }
      for (size_t i = 0; i < grads.size(); ++i) {
        EXPECT_TRUE(at::allclose(grads[i], expected[i], 1e-5, 1e-5)) << "step " << step;
        EXPECT_TRUE(net->parameters()[i].grad().is_same(grads[i])) << "the gradient's storage was replaced";
      }
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, C10dReducerTest, ::testing::Values(1, 2, 3));

TEST(C10dReducerTest, GivesTheSameBitsInEveryRunOfFourRanks) {
  std::mutex mutex;
  std::vector<at::Tensor> all;
  for (int run = 0; run < 2; ++run) {
    RunGang(4, [&](ProcessGroup& group) {
      auto net = Net();
      auto grads = DefinedGrads(net);
      auto reducer = MakeC10dReducer(group, net->parameters());
      for (int step = 0; step < 4; ++step) {
        for (auto& g : grads) g.zero_();
        const at::Tensor x = Inputs().slice(0, group.rank() * 3, group.rank() * 3 + 3);
        ASSERT_TRUE(reducer->Backward(net->forward(x).square().sum(), true).ok());
      }
      std::lock_guard<std::mutex> lock(mutex);
      all.push_back(grads[0].clone());
    });
  }
  ASSERT_EQ(all.size(), 8u);
  for (const at::Tensor& g : all) EXPECT_TRUE(at::equal(g, all[0]));
}

TEST(C10dReducerTest, ARankAloneWithABackendGetsTheBitsOfAPlainBackwardPass) {
  const auto expected = GradsOfOneProcess(2);
  GroupOptions options;
  options.backend = "gloo";
  options.master_address = "127.0.0.1";
  auto group = ProcessGroup::Create(options);
  ASSERT_TRUE(group.ok()) << group.status();
  auto net = Net();
  auto grads = DefinedGrads(net);
  auto reducer = MakeC10dReducer(**group, net->parameters());
  for (int step = 0; step < 2; ++step) {
    for (auto& g : grads) g.zero_();
    ASSERT_TRUE(reducer->Backward(net->forward(Inputs()).square().sum(), /*last=*/true).ok());
  }
  for (size_t i = 0; i < grads.size(); ++i) EXPECT_TRUE(at::equal(grads[i], expected[i]));
}

TEST(C10dReducerTest, LetsErrorsOfTheModelThrough) {
  auto group = ProcessGroup::Create({});
  auto reducer = MakeC10dReducer(**group, {});
  EXPECT_THROW((void)reducer->Backward(at::ones({2}, at::requires_grad()), true), c10::Error);
}

}  // namespace
}  // namespace p2::dist
