// The CPU kernels against the definitions of their headers, written as plainly as can be.
#include <bit>
#include <cmath>
#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "worker/random/box_muller.h"
#include "worker/random/dropout_mask.h"
#include "worker/random/normal.h"
#include "worker/random/philox.h"
#include "worker/random/streams.h"

namespace p2::random {
namespace {

constexpr std::uint64_t kSeed = 0x0123456789abcdefu;

double ExactNormal(std::uint64_t g, std::size_t element) {
  const Words words = Draw(kSeed, kNoiseStream, g, static_cast<std::uint32_t>(element / 4));
  const std::size_t pair = element % 4 / 2 * 2;
  const double r = std::sqrt(-2 * std::log(static_cast<double>(Uniform24(words.w[pair]))));
  const double angle = 2 * M_PI * static_cast<double>(Uniform24(words.w[pair + 1]));
  return element % 2 == 0 ? r * std::cos(angle) : r * std::sin(angle);
}

TEST(FillNormalTest, IsWithinFourUlpOfBoxMuller) {
  std::vector<float> z(1 << 18);
  FillNormal(kSeed, kNoiseStream, 7, 0, z.data(), z.size());
  for (std::size_t i = 0; i < z.size(); ++i) {
    const double exact = ExactNormal(7, i);
    const double ulp = std::ldexp(1.0, std::ilogb(std::max(std::abs(exact), 1e-7)) - 23);
    ASSERT_LE(std::abs(z[i] - exact), 4 * ulp) << "element " << i;
  }
}

TEST(FillNormalTest, IsStandardNormal) {
  std::vector<float> z(1 << 20);
  FillNormal(kSeed, kNoiseStream, 0, 0, z.data(), z.size());
  double power[5] = {};
  for (const float v : z) {
    for (int k = 1; k < 5; ++k) power[k] += std::pow(static_cast<double>(v), k) / static_cast<double>(z.size());
  }
  EXPECT_NEAR(power[1], 0, 0.005);
  EXPECT_NEAR(power[2], 1, 0.01);
  EXPECT_NEAR(power[3], 0, 0.02);
  EXPECT_NEAR(power[4], 3, 0.06);
}

TEST(FillNormalTest, AnyPartEqualsThatPartOfTheWhole) {
  std::vector<float> whole(1003);
  FillNormal(kSeed, kNoiseStream, 3, 0, whole.data(), whole.size());
  for (const std::size_t first_block : {1u, 17u, 200u}) {
    std::vector<float> part(whole.size() - 4 * first_block);
    FillNormal(kSeed, kNoiseStream, 3, static_cast<std::uint32_t>(first_block), part.data(), part.size());
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + static_cast<std::ptrdiff_t>(4 * first_block)));
  }
}

// The bits themselves: a checkpoint's run goes on with these numbers on any other CPU.
TEST(FillNormalTest, BitsNeverChange) {
  std::vector<float> z(200000);
  FillNormal(kSeed, kNoiseStream, 1, 0, z.data(), z.size());
  std::uint32_t hash = 0x811c9dc5u;
  for (const float v : z) hash = (hash ^ std::bit_cast<std::uint32_t>(v)) * 0x01000193u;
  EXPECT_EQ(hash, 2253718811u);
}

TEST(ApplyDropoutMaskTest, KeepsLanesAtOrAboveTheThreshold) {
  const DropoutRate rate = DropoutRate::FromProbability(0.3);
  EXPECT_EQ(rate.threshold, 19661u);
  EXPECT_FLOAT_EQ(rate.scale, 65536.0f / (65536 - 19661));
  std::vector<float> in(1021), out(in.size());
  std::iota(in.begin(), in.end(), 1.0f);
  const std::uint32_t stream = StreamId("dropout/x");
  ApplyDropoutMask(kSeed, stream, 5, /*first_block=*/2, rate, in.data(), out.data(), in.size());
  for (std::size_t j = 0; j < in.size(); ++j) {
    const Words words = Draw(kSeed, stream, 5, static_cast<std::uint32_t>(2 + j / 8));
    const bool kept = Lane16(words, j % 8) >= rate.threshold;
    ASSERT_EQ(out[j], kept ? in[j] * rate.scale : 0.0f) << "element " << j;
  }
}

TEST(ApplyDropoutMaskTest, DropsTheAskedShareAndKeepsTheMean) {
  std::vector<float> x(1 << 20, 1.0f);
  ApplyDropoutMask(kSeed, StreamId("dropout/x"), 0, 0, DropoutRate::FromProbability(0.1), x.data(), x.data(), x.size());
  const auto dropped = static_cast<double>(std::count(x.begin(), x.end(), 0.0f));
  EXPECT_NEAR(dropped / static_cast<double>(x.size()), 0.1, 0.001);
  EXPECT_NEAR(std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size()), 1.0, 0.001);
}

}  // namespace
}  // namespace p2::random
