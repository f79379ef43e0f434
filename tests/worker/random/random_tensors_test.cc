#include "worker/random/random_tensors.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

#include "gtest/gtest.h"
#include "worker/random/philox.h"
#include "worker/random/streams.h"

namespace p2::random {
namespace {

constexpr std::uint64_t kSeed = 42;
constexpr std::uint64_t kFirst = (std::uint64_t{1} << 32) - 2;  // Row 2 crosses into the high word of g.
const std::uint32_t kDropoutStream = StreamId("dropout/middle_block.0.out_layers.2");

TEST(NormalTest, ARowDependsOnItsSampleAlone) {
  const torch::Tensor batch = Normal({kSeed, kNoiseStream, kFirst}, {4, 3, 5, 7});
  for (int64_t i = 0; i < 4; ++i) {
    const torch::Tensor alone = Normal({kSeed, kNoiseStream, kFirst + static_cast<std::uint64_t>(i)}, {1, 3, 5, 7});
    EXPECT_TRUE(at::equal(alone[0], batch[i]));
  }
  EXPECT_FALSE(at::equal(batch[0], batch[1]));
  EXPECT_FALSE(at::equal(batch, Normal({kSeed + 1, kNoiseStream, kFirst}, {4, 3, 5, 7})));
  EXPECT_FALSE(at::equal(batch, Normal({kSeed, kPreviewStream, kFirst}, {4, 3, 5, 7})));
}

TEST(NormalTest, FirstBlockSkipsFourElementsEach) {
  const torch::Tensor whole = Normal({kSeed, kSampleStream, 0}, {2, 40});
  const torch::Tensor rest = Normal({kSeed, kSampleStream, 0}, {2, 28}, /*first_block=*/3);
  EXPECT_TRUE(at::equal(rest, whole.narrow(1, 12, 28)));
  EXPECT_EQ(NormalBlocks(28), 7u);
  EXPECT_EQ(NormalBlocks(29), 8u);
}

TEST(NormalTest, DoesNotDependOnThreads) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const torch::Tensor one = Normal({kSeed, kNoiseStream, 0}, {2, 3, 128, 128});
  at::set_num_threads(3);
  const torch::Tensor three = Normal({kSeed, kNoiseStream, 0}, {2, 3, 128, 128});
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, three));
}

TEST(TimestepsTest, ScalesOneWordASample) {
  const torch::Tensor t = Timesteps({kSeed, kTimestepStream, kFirst}, 4, 1000);
  ASSERT_EQ(t.scalar_type(), torch::kInt64);
  for (int64_t i = 0; i < 4; ++i) {
    const std::uint64_t u = DrawScalar(kSeed, kTimestepStream, kFirst + static_cast<std::uint64_t>(i));
    EXPECT_EQ(t[i].item<int64_t>(), static_cast<int64_t>((u * 1000) >> 32));
  }
}

TEST(TimestepsTest, CoversAllTimestepsEvenly) {
  const torch::Tensor counts = at::bincount(Timesteps({kSeed, kTimestepStream, 0}, 100000, 20), {}, 20);
  EXPECT_EQ(counts.numel(), 20);
  EXPECT_GT(counts.min().item<int64_t>(), 4600);
  EXPECT_LT(counts.max().item<int64_t>(), 5400);
}

TEST(SymmetricUniformTest, FillsTheRangeAndNothingElse) {
  const torch::Tensor x = SymmetricUniform({kSeed, StreamId("init/w"), 0}, {300, 301}, 0.25);
  EXPECT_LE(x.abs().max().item<float>(), 0.25f);
  EXPECT_GT(x.max().item<float>(), 0.2499f);
  EXPECT_NEAR(x.mean().item<double>(), 0, 0.002);
  EXPECT_NEAR(x.square().mean().item<double>(), 0.25 * 0.25 / 3, 2e-4);
}

TEST(DropoutTest, BackwardUsesTheMaskOfForward) {
  const torch::Tensor x = at::ones({3, 4, 9, 9}).requires_grad_();
  const torch::Tensor y = Dropout(x, {kSeed, kDropoutStream, 11}, DropoutRate::FromProbability(0.4));
  const torch::Tensor weight = at::arange(y.numel(), torch::kFloat32).view_as(y);
  (y * weight).sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), y.detach() * weight));
}

TEST(DropoutTest, MasksInLogicalOrderWhateverTheMemoryFormat) {
  const torch::Tensor x = at::rand({2, 8, 6, 6});
  const DropoutRate rate = DropoutRate::FromProbability(0.5);
  const torch::Tensor y = Dropout(x, {kSeed, kDropoutStream, 0}, rate);
  EXPECT_TRUE(at::equal(Dropout(x.contiguous(at::MemoryFormat::ChannelsLast), {kSeed, kDropoutStream, 0}, rate), y));
  EXPECT_TRUE(at::equal(Dropout(x.narrow(0, 1, 1), {kSeed, kDropoutStream, 1}, rate)[0], y[1]));
}

TEST(DropoutTest, OfBf16IsThatOfFp32Rounded) {
  const RowKey key{kSeed, kDropoutStream, 3};
  const DropoutRate rate = DropoutRate::FromProbability(0.3);
  torch::Tensor x = at::randn({2, 3, 7, 11}).to(torch::kBFloat16);
  x[0][0][0][0] = NAN;
  x[1][2][6][10] = INFINITY;
  const torch::Tensor masked = Dropout(x, key, rate);
  EXPECT_EQ(masked.scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(at::allclose(masked, Dropout(x.to(torch::kFloat32), key, rate).to(torch::kBFloat16), 0, 0,
                           /*equal_nan=*/true));
  torch::Tensor input = at::ones({2, 3, 7, 11}, torch::kBFloat16).requires_grad_();
  Dropout(input, key, rate).sum().backward();
  EXPECT_TRUE(at::equal(input.grad(), Dropout(input.detach(), key, rate)));
}

TEST(DropoutTest, RateZeroIsTheIdentity) {
  const torch::Tensor x = at::rand({1, 8});
  EXPECT_TRUE(Dropout(x, {kSeed, kDropoutStream, 0}, {}).is_same(x));
}

TEST(DropoutTest, RefusesATypeItHasNoKernelFor) {
  EXPECT_THROW(
      Dropout(at::rand({1, 8}, torch::kFloat64), {kSeed, kDropoutStream, 0}, DropoutRate::FromProbability(0.5)),
      c10::Error);
}

}  // namespace
}  // namespace p2::random
