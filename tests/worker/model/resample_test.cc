#include "worker/model/resample.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>
#include <vector>

namespace p2::model {
namespace {

using Operation = std::function<torch::Tensor(const torch::Tensor&)>;

const std::vector<int64_t> kShapes[] = {{1, 1, 2, 2}, {2, 3, 4, 6}, {1, 32, 64, 64}, {8, 64, 16, 16}, {3, 5, 18, 34}};

// Values and gradients, bit for bit, of contiguous and of other inputs.
void ExpectEqualBits(const Operation& ours, const Operation& torchs, torch::ScalarType type) {
  torch::manual_seed(1);
  for (const auto& shape : kShapes) {
    for (const auto layout : {torch::MemoryFormat::Contiguous, torch::MemoryFormat::ChannelsLast}) {
      const torch::Tensor values = torch::randn(shape).to(type);
      const torch::Tensor x = values.clone(layout).requires_grad_(true),
                          reference = values.clone().requires_grad_(true);
      const torch::Tensor y = ours(x), expected = torchs(reference);
      ASSERT_EQ(y.sizes(), expected.sizes());
      EXPECT_TRUE(torch::equal(y, expected)) << values.sizes();
      const torch::Tensor gradient = torch::randn(expected.sizes()).to(type);
      y.backward(gradient.contiguous(layout));
      expected.backward(gradient);
      EXPECT_TRUE(torch::equal(x.grad(), reference.grad())) << values.sizes();
      const torch::NoGradGuard no_grad;
      EXPECT_TRUE(torch::equal(ours(x), expected)) << "without gradients";
    }
  }
}

TEST(ResampleTest, DoublesAsTorchDoes) {
  const Operation torchs = [](const torch::Tensor& x) {
    return at::upsample_nearest2d(x, {2 * x.size(2), 2 * x.size(3)});
  };
  ExpectEqualBits(UpsampleByTwo, torchs, torch::kFloat32);
  ExpectEqualBits(UpsampleByTwo, torchs, torch::kBFloat16);
}

TEST(ResampleTest, HalvesAsTorchDoes) {
  const Operation torchs = [](const torch::Tensor& x) { return at::avg_pool2d(x, 2); };
  ExpectEqualBits(DownsampleByTwo, torchs, torch::kFloat32);
  ExpectEqualBits(DownsampleByTwo, torchs, torch::kBFloat16);
  const torch::Tensor odd = torch::randn({2, 3, 5, 7});
  EXPECT_TRUE(torch::equal(DownsampleByTwo(odd), torchs(odd)));
}

TEST(ResampleTest, GivesTheSameBitsOnSeveralThreads) {
  const torch::Tensor x = torch::randn({8, 32, 64, 64});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const torch::Tensor up = UpsampleByTwo(x), down = DownsampleByTwo(x);
  at::set_num_threads(3);
  EXPECT_TRUE(torch::equal(UpsampleByTwo(x), up));
  EXPECT_TRUE(torch::equal(DownsampleByTwo(x), down));
  at::set_num_threads(threads);
}

}  // namespace
}  // namespace p2::model
