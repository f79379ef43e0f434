// The CUDA kernels against the CPU's.
#include <ATen/ATen.h>
#include <torch/cuda.h>

#include "gtest/gtest.h"
#include "worker/random/random_tensors.h"
#include "worker/random/streams.h"

namespace p2::random {
namespace {

class RandomCudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device on this machine";
  }
};

TEST_F(RandomCudaTest, NormalsAreWithinFourUlpOfTheCpus) {
  const RowKey key{42, kNoiseStream, (std::uint64_t{1} << 32) - 1};
  const torch::Tensor cpu = Normal(key, {3, 3, 65, 67}, /*first_block=*/5);
  const torch::Tensor cuda = Normal(key, {3, 3, 65, 67}, /*first_block=*/5, torch::kCUDA);
  ASSERT_TRUE(cuda.is_cuda());
  const torch::Tensor ulp = at::exp2(at::floor(at::log2(cpu.abs().clamp_min(1e-6))) - 23);
  EXPECT_LE(((cuda.cpu() - cpu).abs() / ulp).max().item<float>(), 4.0f);
}

TEST_F(RandomCudaTest, DropoutMasksAreTheCpus) {
  const RowKey key{42, StreamId("dropout/x"), 9};
  const DropoutRate rate = DropoutRate::FromProbability(0.1);
  const torch::Tensor x = at::randn({3, 5, 7, 9});
  const torch::Tensor on_device = x.cuda().requires_grad_();
  const torch::Tensor y = Dropout(on_device, key, rate);
  EXPECT_TRUE(at::equal(y.detach().cpu(), Dropout(x, key, rate)));
  y.sum().backward();
  EXPECT_TRUE(at::equal(on_device.grad().cpu(), Dropout(at::ones_like(x), key, rate)));
}

TEST_F(RandomCudaTest, TimestepsAreTheCpus) {
  const RowKey key{42, kTimestepStream, (std::uint64_t{1} << 32) - 3};
  const torch::Tensor cuda = Timesteps(key, 1000, 999, torch::kCUDA);
  ASSERT_TRUE(cuda.is_cuda());
  EXPECT_TRUE(at::equal(cuda.cpu(), Timesteps(key, 1000, 999)));
}

TEST_F(RandomCudaTest, KernelsReadTheSampleThatStandsOnTheDevice) {
  const torch::Tensor g = at::full({}, 5, at::dtype(at::kLong).device(at::kCUDA));
  const RowKey key{42, kTimestepStream, 5, g};
  EXPECT_TRUE(at::equal(Timesteps(key, 64, 1000, torch::kCUDA).cpu(), Timesteps({42, kTimestepStream, 5}, 64, 1000)));
  g.fill_(6);  // What a replayed graph sees.
  EXPECT_TRUE(at::equal(Timesteps(key, 64, 1000, torch::kCUDA).cpu(), Timesteps({42, kTimestepStream, 6}, 64, 1000)));
}

}  // namespace
}  // namespace p2::random
