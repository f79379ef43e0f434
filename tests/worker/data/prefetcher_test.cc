#include "worker/data/prefetcher.h"

#include <cstring>

#include "gmock/gmock.h"
#include "tests/worker/data/data_test_util.h"

namespace p2::data {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<ShardReader> OpenReader(const TestDataset& dataset, uint64_t resident_limit_bytes = 0) {
  auto reader = ShardReader::Open(dataset.path(), {.resident_limit_bytes = resident_limit_bytes});
  EXPECT_TRUE(reader.ok()) << reader.status();
  return *std::move(reader);
}

Prefetcher::Options Options(int64_t batch, int64_t lo, int64_t hi) {
  Prefetcher::Options options;
  options.seed = 5;
  options.batch = batch;
  options.lo = lo;
  options.hi = hi;
  return options;
}

// What samples [g, g + n) must look like.
std::vector<uint8_t> Expected(const TestDataset& dataset, const ShardReader& reader, const Prefetcher::Options& options,
                              uint64_t g, size_t n) {
  const SampleOrder order(options.seed, reader.count());
  const size_t side = static_cast<size_t>(reader.manifest().resolution);
  std::vector<uint8_t> all;
  for (size_t i = 0; i < n; ++i) {
    const std::vector<uint8_t> record = dataset.Record(order.ImageOf(g + i));
    const bool flip = options.random_flip && IsFlipped(options.seed, g + i);
    for (size_t j = 0; j < record.size(); ++j) {
      const size_t x = j % side;
      all.push_back(record[j - x + (flip ? side - 1 - x : x)]);
    }
  }
  return all;
}

std::vector<uint8_t> Pixels(const Batch& batch) { return {batch.pixels.get(), batch.pixels.get() + batch.bytes}; }

TEST(PrefetcherTest, DeliversTheSameBytesForAnyThreadsDepthAndRanks) {
  const TestDataset dataset(13, 4, 3, 5);
  for (uint64_t resident_limit : {0, 1 << 20}) {
    const auto reader = OpenReader(dataset, resident_limit);
    for (int threads : {1, 3, 8}) {
      for (int depth : {1, 2, 5}) {
        for (int64_t ranks : {1, 2, 3, 5}) {
          for (int64_t rank = 0; rank < ranks; ++rank) {
            Prefetcher::Options options = Options(5, rank * 5 / ranks, (rank + 1) * 5 / ranks);
            options.first_sample = 1003;
            options.threads = threads;
            options.depth = depth;
            auto prefetcher = Prefetcher::Create(*reader, options);
            ASSERT_TRUE(prefetcher.ok()) << prefetcher.status();
            for (uint64_t step = 0; step < 12; ++step) {
              const auto batch = (*prefetcher)->Next();
              ASSERT_TRUE(batch.ok()) << batch.status();
              const uint64_t g = 1003 + step * 5 + static_cast<uint64_t>(options.lo);
              ASSERT_EQ((*batch)->first_sample, g);
              ASSERT_EQ((*batch)->images.size(), static_cast<size_t>(options.hi - options.lo));
              ASSERT_EQ(Pixels(**batch), Expected(dataset, *reader, options, g, (*batch)->images.size()));
            }
          }
        }
      }
    }
  }
}

TEST(PrefetcherTest, TellsWhichImageEachSampleShowsAndHow) {
  const TestDataset dataset(100, 2, 1, 50);
  const auto reader = OpenReader(dataset);
  const auto prefetcher = *Prefetcher::Create(*reader, Options(8, 2, 6));
  const SampleOrder order(5, 100);
  for (uint64_t step = 0; step < 30; ++step) {
    const auto batch = *prefetcher->Next();
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(batch->images[i], order.ImageOf(step * 8 + 2 + i));
      EXPECT_EQ(batch->flipped[i], IsFlipped(5, step * 8 + 2 + i));
    }
  }
}

TEST(PrefetcherTest, MirrorsAboutHalfOfTheSamplesUnlessToldNotTo) {
  int flips = 0;
  for (uint64_t g = 0; g < 10'000; ++g) flips += IsFlipped(5, g);
  EXPECT_NEAR(flips, 5000, 250);

  const TestDataset dataset(20, 2, 1, 20);
  const auto reader = OpenReader(dataset);
  Prefetcher::Options options = Options(20, 0, 20);
  options.random_flip = false;
  const auto prefetcher = *Prefetcher::Create(*reader, options);
  const auto batch = *prefetcher->Next();
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_FALSE(batch->flipped[i]);
    EXPECT_EQ(std::memcmp(batch->pixels.get() + 4 * i, dataset.Record(batch->images[i]).data(), 4), 0);
  }
}

TEST(PrefetcherTest, BringsAnErrorAtItsBatchAndKeepsIt) {
  const TestDataset dataset(64, 2, 1, 64);
  const auto reader = OpenReader(dataset);
  const SampleOrder order(5, 64);
  // Cut the file so that the last record is gone; the steps before it are good.
  uint64_t bad_sample = 0;
  while (order.ImageOf(bad_sample) != 63) ++bad_sample;
  std::filesystem::resize_file(dataset.Shard(0), 64 + 63 * 4);
  const auto prefetcher = *Prefetcher::Create(*reader, Options(1, 0, 1));
  for (uint64_t step = 0; step < bad_sample; ++step) ASSERT_TRUE(prefetcher->Next().ok()) << step;
  for (int again = 0; again < 3; ++again) {
    const absl::Status status = prefetcher->Next().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()), HasSubstr("shard-00000.p2s"));
  }
}

TEST(PrefetcherTest, StopsWhileANextIsWaiting) {
  const TestDataset dataset(4, 2, 1, 4);
  const auto reader = OpenReader(dataset);
  const auto prefetcher = *Prefetcher::Create(*reader, Options(1, 0, 1));
  std::thread consumer([&] {
    while (prefetcher->Next().ok()) {
    }
  });
  prefetcher->Stop();
  consumer.join();
  EXPECT_EQ(prefetcher->Next().status().code(), absl::StatusCode::kCancelled);
  prefetcher->Stop();
}

TEST(PrefetcherTest, LendsABatchForAsLongAsItIsHeld) {
  const TestDataset dataset(16, 2, 1, 16);
  const auto reader = OpenReader(dataset);
  const Prefetcher::Options options = Options(2, 0, 2);
  std::vector<std::shared_ptr<const Batch>> held;
  {
    const auto prefetcher = *Prefetcher::Create(*reader, options);
    for (int step = 0; step < 20; ++step) held.push_back(*prefetcher->Next());
  }
  for (uint64_t step = 0; step < 20; ++step) {
    EXPECT_EQ(Pixels(*held[step]), Expected(dataset, *reader, options, step * 2, 2));
  }
}

TEST(PrefetcherTest, UsesTheCallersMemoryAgainAndAgain) {
  const TestDataset dataset(16, 2, 1, 16);
  const auto reader = OpenReader(dataset);
  std::atomic<int> allocations = 0;
  Prefetcher::Options options = Options(2, 0, 2);
  options.threads = 2;
  options.depth = 3;
  options.allocate = [&](size_t bytes) {
    ++allocations;
    EXPECT_EQ(bytes, 8u);
    return BatchMemory(new uint8_t[bytes], std::default_delete<uint8_t[]>());
  };
  const auto prefetcher = *Prefetcher::Create(*reader, options);
  for (int step = 0; step < 200; ++step) ASSERT_TRUE(prefetcher->Next().ok());
  EXPECT_LE(allocations, 5);  // Those ahead, one being given out, one being filled.
}

TEST(PrefetcherTest, RefusesImpossibleOptions) {
  const TestDataset dataset(4, 2, 1, 4);
  const auto reader = OpenReader(dataset);
  EXPECT_FALSE(Prefetcher::Create(*reader, Options(4, 2, 2)).ok());
  EXPECT_FALSE(Prefetcher::Create(*reader, Options(4, -1, 2)).ok());
  EXPECT_FALSE(Prefetcher::Create(*reader, Options(4, 0, 5)).ok());
  Prefetcher::Options options = Options(4, 0, 4);
  options.threads = 0;
  EXPECT_FALSE(Prefetcher::Create(*reader, options).ok());
}

}  // namespace
}  // namespace p2::data
