#include "worker/data/random_crop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "common/sha256.h"
#include "tests/worker/data/data_test_util.h"
#include "worker/data/prefetcher.h"

namespace p2::data {
namespace {

using ::testing::HasSubstr;

struct Known {
  uint64_t seed, g;
  int channels, resolution, size;
  double least_fraction, most_fraction;
  Crop crop;
  const char* sha256;
};

// From tests/worker/data/random_crop_reference.py: the published function with Pillow, its draws answered by the map.
const Known kKnown[] = {
    {5, 0, 3, 40, 32, 0.8, 1.0, {34, 2, 1}, "6cd796f072219cfeae1d3eac18f7bdeb8785508a689ec6fa8c580d276c3da9b4"},
    {5, 1, 3, 40, 32, 0.8, 1.0, {33, 0, 1}, "28e740a0c4ac7329559b867fedbfd034f94eb65dfdf7025a2b326ebac3973527"},
    {5, 2, 3, 64, 32, 0.8, 1.0, {33, 1, 0}, "a1ade2f7ebb14c704e91771f746f289022afda38dce79704e96646fd3a397de4"},
    {5,
     8589934592,
     1,
     100,
     32,
     0.7,
     0.9,
     {39, 4, 3},
     "6a1c724a57582df395b3c4aef129d9d6cbc4127dca22bc96f4e97d1f5b972600"},
    {0x0123456789abcdef,
     12345,
     3,
     150,
     64,
     0.5,
     0.95,
     {99, 21, 4},
     "16421844c10a2c09124205e97685c85ecbd0715b5e1da84bd00c90afb0dd4f02"},
};

std::vector<uint8_t> Record(int channels, int resolution) {
  std::vector<uint8_t> record;
  for (int c = 0; c < channels; ++c) {
    for (int y = 0; y < resolution; ++y) {
      for (int x = 0; x < resolution; ++x)
        record.push_back(static_cast<uint8_t>((x * x * 3 + y * 5 * (c + 1) + (x / 7) * (y / 5) * 40) % 256));
    }
  }
  return record;
}

TEST(RandomCropTest, IsThePublishedCodesByteForByte) {
  for (const Known& known : kKnown) {
    const CropOptions options{known.size, spec::RandomCropSides(known.size, known.least_fraction, known.most_fraction)};
    const Crop crop = CropOf(known.seed, known.g, options);
    EXPECT_EQ(std::tuple(crop.side, crop.top, crop.left), std::tuple(known.crop.side, known.crop.top, known.crop.left))
        << known.g;
    std::vector<uint8_t> out(static_cast<size_t>(known.channels) * known.size * known.size);
    ASSERT_TRUE(CropRecord(Record(known.channels, known.resolution), known.channels, known.resolution, crop, known.size,
                           absl::MakeSpan(out))
                    .ok());
    EXPECT_EQ(Sha256Hex({reinterpret_cast<const char*>(out.data()), out.size()}), known.sha256) << known.g;
  }
}

TEST(RandomCropTest, ReachesEverySideAndEveryCornerAndNothingElse) {
  const CropOptions options{32, spec::RandomCropSides(32, 0.8, 1.0)};
  std::set<int> sides, tops;
  bool bottom = false, right = false;
  for (uint64_t g = 0; g < 2000; ++g) {
    const Crop crop = CropOf(3, g, options);
    ASSERT_GE(std::min(crop.top, crop.left), 0);
    ASSERT_LE(std::max(crop.top, crop.left) + 32, crop.side);
    sides.insert(crop.side);
    bottom |= crop.side == 40 && crop.top == 8;
    right |= crop.side == 40 && crop.left == 8;
  }
  EXPECT_THAT(sides, ::testing::ElementsAre(32, 33, 34, 35, 36, 37, 38, 39, 40));
  EXPECT_TRUE(bottom && right);
}

// The bytes of samples [0, 24) as `ranks` ranks with `threads` threads each and batches of `batch` see them.
std::vector<uint8_t> Seen(const ShardReader& reader, int64_t batch, int64_t ranks, int threads) {
  std::vector<uint8_t> all;
  std::vector<std::unique_ptr<Prefetcher>> prefetchers;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    Prefetcher::Options options;
    options.seed = 5;
    options.batch = batch;
    options.lo = rank * batch / ranks;
    options.hi = (rank + 1) * batch / ranks;
    options.threads = threads;
    options.crop = CropOptions{16, spec::RandomCropSides(16, 0.8, 1.0)};
    prefetchers.push_back(*Prefetcher::Create(reader, options));
  }
  for (int64_t step = 0; step < 24 / batch; ++step) {
    for (const auto& prefetcher : prefetchers) {
      const auto images = prefetcher->Next();
      EXPECT_TRUE(images.ok()) << images.status();
      if (images.ok()) all.insert(all.end(), (*images)->pixels.get(), (*images)->pixels.get() + (*images)->bytes);
    }
  }
  return all;
}

TEST(PrefetcherCropTest, ShowsTheSameCropsForAnyRanksBatchAndThreads) {
  const TestDataset dataset(7, 20, 3, 3);
  const auto reader = ShardReader::Open(dataset.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  const std::vector<uint8_t> one = Seen(**reader, 8, 1, 1);
  ASSERT_EQ(one.size(), 24u * 3 * 16 * 16);
  for (const int64_t ranks : {1, 2, 3}) EXPECT_EQ(Seen(**reader, 8, ranks, 3), one) << ranks << " ranks";
  EXPECT_EQ(Seen(**reader, 4, 2, 1), one) << "another batch";

  // Cropped first, mirrored then, as the published code does; another epoch shows an image by another crop.
  const SampleOrder order(5, 7);
  for (uint64_t g = 0; g < 24; ++g) {
    std::vector<uint8_t> expected(3 * 16 * 16);
    const Crop crop = CropOf(5, g, {16, spec::RandomCropSides(16, 0.8, 1.0)});
    ASSERT_TRUE(CropRecord(dataset.Record(order.ImageOf(g)), 3, 20, crop, 16, absl::MakeSpan(expected)).ok());
    if (IsFlipped(5, g)) {
      for (size_t row = 0; row < expected.size(); row += 16)
        std::reverse(expected.begin() + row, expected.begin() + row + 16);
    }
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), one.begin() + g * expected.size())) << g;
  }
}

TEST(PrefetcherCropTest, RefusesADatasetThatWouldBeEnlarged) {
  const TestDataset dataset(7, 19, 3, 3);
  const auto reader = ShardReader::Open(dataset.path());
  ASSERT_TRUE(reader.ok()) << reader.status();
  Prefetcher::Options options;
  options.batch = options.hi = 4;
  options.crop = CropOptions{16, spec::RandomCropSides(16, 0.8, 1.0)};
  EXPECT_THAT(Prefetcher::Create(**reader, options).status().message(),
              HasSubstr("crops of 16 pixels out of 16 to 20 need images of 20 pixels or more; these have 19"));
}

}  // namespace
}  // namespace p2::data
