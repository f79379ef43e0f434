#include "worker/data/sample_order.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::data {
namespace {

using ::testing::ElementsAre;

std::vector<uint64_t> Epoch(const SampleOrder& order, uint64_t epoch) {
  std::vector<uint64_t> images(order.count());
  for (uint64_t i = 0; i < order.count(); ++i) images[i] = order.ImageOf(epoch * order.count() + i);
  return images;
}

TEST(SampleOrderTest, ShowsEveryImageOnceInEveryEpoch) {
  for (uint64_t count : {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 63, 64, 65, 100, 1000, 4096, 5000, 70000}) {
    const SampleOrder order(7, count);
    std::vector<uint64_t> all(count);
    std::iota(all.begin(), all.end(), 0);
    for (uint64_t epoch : {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{1} << 40}) {
      std::vector<uint64_t> images = Epoch(order, epoch);
      std::sort(images.begin(), images.end());
      EXPECT_EQ(images, all) << count << " images, epoch " << epoch;
    }
  }
}

TEST(SampleOrderTest, DrawsAnotherOrderForEachEpochAndSeed) {
  const SampleOrder order(1, 100), other(2, 100);
  EXPECT_NE(Epoch(order, 0), Epoch(order, 1));
  EXPECT_NE(Epoch(order, 0), Epoch(other, 0));
  EXPECT_NE(Epoch(order, 5), Epoch(order, 5 + (uint64_t{1} << 32)));
  EXPECT_EQ(Epoch(order, 3), Epoch(SampleOrder(1, 100), 3));
}

TEST(SampleOrderTest, PutsEachImageAtEachPositionEquallyOften) {
  constexpr uint64_t kCount = 10;
  constexpr int kEpochs = 20'000;
  const SampleOrder order(3, kCount);
  std::vector<double> seen(kCount * kCount);
  for (uint64_t g = 0; g < kCount * kEpochs; ++g) ++seen[g % kCount * kCount + order.ImageOf(g)];
  double chi_square = 0;
  for (double n : seen) chi_square += (n - kEpochs / 10.0) * (n - kEpochs / 10.0) / (kEpochs / 10.0);
  // 81 degrees of freedom: mean 81, standard deviation 12.7; a true shuffle passes 150 once in a million.
  EXPECT_LT(chi_square, 150);
}

TEST(SampleOrderTest, HasKnownAnswers) {
  // From tests/worker/data/sample_order_reference.py, written from the header's text alone.
  EXPECT_THAT(Epoch(SampleOrder(0, 10), 0), ElementsAre(3, 7, 2, 9, 8, 6, 1, 0, 5, 4));
  EXPECT_THAT(Epoch(SampleOrder(0, 10), 1), ElementsAre(0, 2, 4, 3, 5, 6, 7, 9, 8, 1));
  EXPECT_THAT(Epoch(SampleOrder(0x0123456789abcdef, 7), uint64_t{1} << 33), ElementsAre(5, 6, 4, 1, 3, 0, 2));
  const SampleOrder large(42, uint64_t{1} << 33);
  EXPECT_EQ(large.ImageOf(12345), 5621791025u);
  const SampleOrder mnist(1, 5000);
  EXPECT_EQ(mnist.ImageOf(4999), 3555u);
  EXPECT_EQ(mnist.ImageOf(5000), 3637u);
}

}  // namespace
}  // namespace p2::data
