// Unet::ComputeWith copies in bf16 (TRAINING.md 5).
#include <ATen/ATen.h>
#include <torch/nn/module.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/golden.h"
#include "worker/model/unet.h"

namespace p2::model {
namespace {

using ::p2::testing::GoldenTensors;
using ::p2::testing::GoldenTinyUnet;

std::vector<at::Tensor> Copies(const Unet& unet) {
  std::vector<at::Tensor> copies;
  for (const at::Tensor& parameter : unet.parameters()) copies.push_back(parameter.detach().to(at::kBFloat16));
  return copies;
}

double RelativeError(const at::Tensor& value, const at::Tensor& expected) {
  return (value - expected).norm().item<double>() / expected.norm().item<double>();
}

at::Tensor Loss(Unet& unet, const GoldenTensors& cases) {
  const at::Tensor out = unet.forward(cases["fwd.x"], cases["fwd.t"]);
  return (out - at::ones_like(out)).square().mean();
}

TEST(Bf16UnetTest, ForwardIsNearTheReferenceAndNotEqualToIt) {
  const auto unet = GoldenTinyUnet();
  const GoldenTensors cases("tiny_cases.safetensors");
  unet->ComputeWith(Copies(*unet));
  const at::Tensor out = unet->forward(cases["fwd.x"], cases["fwd.t"]);
  EXPECT_EQ(out.scalar_type(), at::kFloat);
  EXPECT_LT(RelativeError(out, cases["fwd.out"]), 2e-2);
  EXPECT_GT(RelativeError(out, cases["fwd.out"]), 1e-4) << "nothing was computed in bf16";
}

TEST(Bf16UnetTest, GradientsReachTheParametersInFp32) {
  const auto exact = GoldenTinyUnet(), half = GoldenTinyUnet();
  const GoldenTensors cases("tiny_cases.safetensors");
  half->ComputeWith(Copies(*half));
  const std::vector<at::Tensor> before = Copies(*half);
  Loss(*exact, cases).backward();
  Loss(*half, cases).backward();
  double error = 0, norm = 0;
  const auto theirs = exact->named_parameters(), mine = half->named_parameters();
  for (const auto& item : mine) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    EXPECT_EQ(item.value().scalar_type(), at::kFloat) << item.key();
    EXPECT_EQ(item.value().grad().scalar_type(), at::kFloat) << item.key();
    const at::Tensor expected = theirs[item.key()].grad();
    const double size = expected.norm().item<double>();
    error += std::pow((item.value().grad() - expected).norm().item<double>(), 2);
    norm += size * size;
    if (size < 1e-3) continue;
    EXPECT_LT(RelativeError(item.value().grad(), expected), 0.1) << item.key();
  }
  EXPECT_LT(std::sqrt(error / norm), 2e-2);
}

// Two microbatches add up in fp32: a small gradient is not lost beside a large one.
TEST(Bf16UnetTest, GradientsAddUpInFp32) {
  const auto unet = GoldenTinyUnet();
  const GoldenTensors cases("tiny_cases.safetensors");
  unet->ComputeWith(Copies(*unet));
  Loss(*unet, cases).backward();
  at::Tensor grad = unet->named_parameters()["middle_block.0.in_layers.2.weight"].grad();
  const at::Tensor once = grad.clone();
  (Loss(*unet, cases) / 4096).backward();
  EXPECT_LT(RelativeError(grad - once, once / 4096), 1e-2) << "bf16 keeps 8 bits, 1/4096 of a number is below them";
}

// What stays in fp32 whatever the copies hold.
TEST(Bf16UnetTest, TimeEmbeddingNormsAndOutputConvolutionKeepTheirParameters) {
  const GoldenTensors cases("tiny_cases.safetensors");
  const auto changed_by = [&](const std::string& name) {
    const auto unet = GoldenTinyUnet();
    std::vector<at::Tensor> copies = Copies(*unet);
    const auto parameters = unet->named_parameters();
    for (size_t i = 0; i < copies.size(); ++i) {
      if (parameters[i].key() == name) copies[i].fill_(3);
    }
    const auto other = GoldenTinyUnet();
    other->ComputeWith(Copies(*other));
    unet->ComputeWith(copies);
    const torch::NoGradGuard no_grad;
    return !at::equal(unet->forward(cases["fwd.x"], cases["fwd.t"]), other->forward(cases["fwd.x"], cases["fwd.t"]));
  };
  for (const char* name : {"time_embed.0.weight", "time_embed.2.bias", "out.2.weight", "out.2.bias", "out.0.weight",
                           "input_blocks.1.0.in_layers.0.weight", "middle_block.1.norm.bias"}) {
    EXPECT_FALSE(changed_by(name)) << name;
  }
  for (const char* name :
       {"input_blocks.0.0.weight", "input_blocks.1.0.in_layers.2.bias", "middle_block.0.emb_layers.1.weight",
        "middle_block.1.qkv.weight", "output_blocks.0.0.skip_connection.weight"}) {
    EXPECT_TRUE(changed_by(name)) << name;
  }
}

}  // namespace
}  // namespace p2::model
