#include "worker/data/shard_reader.h"

#include <fstream>
#include <thread>

#include "gmock/gmock.h"
#include "tests/worker/data/data_test_util.h"

namespace p2::data {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr ShardReader::Options kFromDisk{.resident_limit_bytes = 0};

absl::Status OpenError(const TestDataset& dataset) { return ShardReader::Open(dataset.path()).status(); }

void FlipByte(const std::string& path, size_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(at));
  const char byte = static_cast<char>(file.get() ^ 1);
  file.seekp(static_cast<std::streamoff>(at));
  file.put(byte);
}

TEST(ShardReaderTest, ReadsEveryRecordFromMemoryAndFromDisk) {
  const TestDataset dataset(11, 3, 3, 4);
  for (const ShardReader::Options& options : {ShardReader::Options(), kFromDisk}) {
    const auto reader = ShardReader::Open(dataset.path(), options);
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_EQ((*reader)->count(), 11u);
    EXPECT_EQ((*reader)->record_bytes(), 27u);
    EXPECT_EQ((*reader)->resident().size(), options.resident_limit_bytes == 0 ? 0u : 11u * 27);
    std::vector<uint8_t> record(27);
    for (uint64_t i = 0; i < 11; ++i) {
      ASSERT_TRUE((*reader)->Read(i, absl::MakeSpan(record)).ok());
      EXPECT_EQ(record, dataset.Record(i)) << i;
    }
  }
}

TEST(ShardReaderTest, KeepsASetOfExactlyTheLimitInMemory) {
  const TestDataset dataset(4, 2, 1, 2);
  EXPECT_FALSE((*ShardReader::Open(dataset.path(), {.resident_limit_bytes = 16}))->resident().empty());
  EXPECT_TRUE((*ShardReader::Open(dataset.path(), {.resident_limit_bytes = 15}))->resident().empty());
}

TEST(ShardReaderTest, RefusesARecordThatDoesNotExistAndAWrongBuffer) {
  const TestDataset dataset(2, 2, 1, 2);
  const auto reader = ShardReader::Open(dataset.path());
  ASSERT_TRUE(reader.ok());
  std::vector<uint8_t> record(4);
  EXPECT_EQ((*reader)->Read(2, absl::MakeSpan(record)).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ((*reader)->Read(0, absl::MakeSpan(record).first(3)).code(), absl::StatusCode::kInvalidArgument);
}

TEST(ShardReaderTest, SaysWhichShardIsCutShortMissingOrDamaged) {
  const TestDataset dataset(6, 2, 1, 2);
  FlipByte(dataset.Shard(1), 20);
  EXPECT_EQ(OpenError(dataset).code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(OpenError(dataset).message()), HasSubstr("shard-00001.p2s: the header's checksum is wrong"));
  FlipByte(dataset.Shard(1), 20);
  fs::rename(dataset.Shard(1), dataset.path() + "/x");
  fs::copy(dataset.Shard(0), dataset.Shard(1));
  EXPECT_THAT(std::string(OpenError(dataset).message()), HasSubstr("not the shard that the manifest describes"));
  fs::resize_file(dataset.Shard(1), 70);
  EXPECT_THAT(std::string(OpenError(dataset).message()),
              HasSubstr("shard-00001.p2s has 70 bytes, the manifest says 84"));
  fs::remove(dataset.Shard(1));
  EXPECT_EQ(OpenError(dataset).code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(OpenError(dataset).message()), HasSubstr("shard-00001.p2s is missing"));
}

TEST(ShardReaderTest, FindsAFlippedByteWhenItReadsTheRecord) {
  const TestDataset dataset(6, 2, 1, 4);
  const auto reader = ShardReader::Open(dataset.path(), kFromDisk);
  ASSERT_TRUE(reader.ok()) << reader.status();
  std::vector<uint8_t> record(4);
  FlipByte(dataset.Shard(1), 64 + 4 + 2);  // In record 1 of the second shard.
  EXPECT_TRUE((*reader)->Read(4, absl::MakeSpan(record)).ok());
  const absl::Status status = (*reader)->Read(5, absl::MakeSpan(record));
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("shard-00001.p2s: record 1 (bytes 68 to 71) is damaged"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("`p2ctl dataset validate " + dataset.path() + "`"));
  EXPECT_EQ(OpenError(dataset).code(), absl::StatusCode::kDataLoss) << "a resident set is checked when it is read";
  EXPECT_THAT(std::string(OpenError(dataset).message()), HasSubstr("shard-00001.p2s: record 1"));
}

TEST(ShardReaderTest, ReadsSetsOfTheFirstVersionWhichHaveNoChecksums) {
  const TestDataset dataset(5, 2, 1, 2, /*version=*/1);
  EXPECT_EQ(fs::file_size(dataset.Shard(0)), 64u + 8);
  for (const ShardReader::Options& options : {ShardReader::Options(), kFromDisk}) {
    const auto reader = ShardReader::Open(dataset.path(), options);
    ASSERT_TRUE(reader.ok()) << reader.status();
    std::vector<uint8_t> record(4);
    for (uint64_t i = 0; i < 5; ++i) {
      ASSERT_TRUE((*reader)->Read(i, absl::MakeSpan(record)).ok());
      EXPECT_EQ(record, dataset.Record(i)) << i;
    }
  }
}

TEST(ShardReaderTest, SaysThatADirectoryIsNoDataset) {
  EXPECT_EQ(ShardReader::Open(::testing::TempDir() + "/no-such-set").status().code(), absl::StatusCode::kNotFound);
}

TEST(ShardReaderTest, GivesDataLossWhenAShardShrinksUnderIt) {
  const TestDataset dataset(4, 2, 1, 4);
  const auto reader = ShardReader::Open(dataset.path(), kFromDisk);
  ASSERT_TRUE(reader.ok());
  fs::resize_file(dataset.Shard(0), 64 + 10);
  std::vector<uint8_t> record(4);
  EXPECT_TRUE((*reader)->Read(1, absl::MakeSpan(record)).ok());
  const absl::Status status = (*reader)->Read(2, absl::MakeSpan(record));
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("shard-00000.p2s ends at byte 74"));
}

TEST(ShardReaderTest, IsReadByManyThreadsAtOnce) {
  const TestDataset dataset(50, 4, 1, 7);
  const auto reader = ShardReader::Open(dataset.path(), kFromDisk);
  ASSERT_TRUE(reader.ok());
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      std::vector<uint8_t> record(16);
      for (uint64_t i = 0; i < 50; ++i) {
        if (!(*reader)->Read(i, absl::MakeSpan(record)).ok() || record != dataset.Record(i)) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace p2::data
