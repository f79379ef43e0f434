#include "server/store/data_directory.h"

#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include "common/crc32c.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/store/commit_counter.h"
#include "tests/server/store/temp_directory.h"

namespace p2::store {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kGiB = int64_t{1} << 30;

TEST(DataDirectoryTest, RefusesADirectoryThatAnotherHolds) {
  const TempDirectory temp;
  auto first = DataDirectory::Open({.path = temp.path() + "/data/p2d"});
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = DataDirectory::Open({.path = temp.path() + "/data/p2d"});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(second.status().message(),
              AllOf(HasSubstr("/data/p2d"), HasSubstr(std::to_string(getpid())), HasSubstr("--data-dir")));
  first->reset();
  EXPECT_TRUE(DataDirectory::Open({.path = temp.path() + "/data/p2d"}).ok());
}

TEST(DataDirectoryTest, SaysWhatToDoWhereNoneCanBeMade) {
  const auto none = DataDirectory::Open({.path = "/proc/none"});
  EXPECT_THAT(none.status().message(), AllOf(HasSubstr("/proc/none"), HasSubstr("--data-dir")));
}

TEST(DataDirectoryTest, GivesTheBallastBackAtStartAndTakesItAgain) {
  const TempDirectory temp;
  const std::string ballast = temp.path() + "/ballast";
  DiskSpace space{.free_bytes = kGiB, .total_bytes = 10 * kGiB};
  const DataDirectoryOptions options{
      .path = temp.path(), .ballast_bytes = kMiB, .disk_space = [&](const std::string&) { return space; }};
  {
    auto directory = DataDirectory::Open(options);
    ASSERT_TRUE(directory.ok()) << directory.status();
    ASSERT_TRUE((*directory)->RestoreBallast().ok());
    EXPECT_EQ(std::filesystem::file_size(ballast), static_cast<uintmax_t>(kMiB));
  }
  space.free_bytes = 3 * kMiB;
  auto directory = DataDirectory::Open(options);
  EXPECT_FALSE(std::filesystem::exists(ballast));
  EXPECT_TRUE((*directory)->RestoreBallast().ok());
  EXPECT_FALSE(std::filesystem::exists(ballast));
  // Space is back while p2d runs: the next full disk finds a ballast, too.
  space.free_bytes = 4 * kMiB;
  for (int look = 0; look < 2; ++look) EXPECT_TRUE((*directory)->RestoreBallast().ok());
  EXPECT_EQ(std::filesystem::file_size(ballast), static_cast<uintmax_t>(kMiB));
}

TEST(DiskWatermarkTest, StopsAtFivePercentAndResumesAtTen) {
  DiskWatermark watermark;
  const auto free_percent = [](int percent) {
    return DiskSpace{.free_bytes = percent * kGiB / 100, .total_bytes = kGiB};
  };
  EXPECT_FALSE(watermark.Update(free_percent(6)));
  EXPECT_TRUE(watermark.Update(free_percent(4)));
  EXPECT_TRUE(watermark.Update(free_percent(9)));
  EXPECT_FALSE(watermark.Update(free_percent(11)));
  EXPECT_FALSE(watermark.Update(free_percent(6)));
}

TEST(DiskWatermarkTest, AsksForNoMoreThanAFewGigabytesOfALargeDisk) {
  DiskWatermark watermark;
  EXPECT_FALSE(watermark.Update({.free_bytes = 3 * kGiB, .total_bytes = 1000 * kGiB}));
  EXPECT_TRUE(watermark.Update({.free_bytes = 1 * kGiB, .total_bytes = 1000 * kGiB}));
  EXPECT_FALSE(watermark.Update({.free_bytes = 5 * kGiB, .total_bytes = 1000 * kGiB}));
}

TEST(CommitCounterTest, RemembersTheLastCount) {
  const TempDirectory temp;
  const std::string path = temp.path() + "/commits";
  {
    auto counter = CommitCounter::Create(path, 0);
    ASSERT_TRUE(counter.ok()) << counter.status();
    for (uint64_t count = 1; count <= 5; ++count) ASSERT_TRUE((*counter)->Set(count).ok());
  }
  EXPECT_EQ((*CommitCounter::Open(path))->count(), 5u);
}

TEST(CommitCounterTest, FallsBackToTheOtherSlotWhenOneIsTorn) {
  const TempDirectory temp;
  const std::string path = temp.path() + "/commits";
  {
    auto counter = CommitCounter::Create(path, 4);
    ASSERT_TRUE((*counter)->Set(5).ok());
  }
  std::string data = ReadWhole(path);
  data[512 + 6] ^= 1;  // The slot of odd counts.
  WriteWhole(path, data);
  EXPECT_EQ((*CommitCounter::Open(path))->count(), 4u);
  data[6] ^= 1;
  WriteWhole(path, data);
  EXPECT_EQ(CommitCounter::Open(path).status().code(), absl::StatusCode::kDataLoss);
}

TEST(CommitCounterTest, ReadsAFileOfVersionOneWhichHasNoMark) {
  const TempDirectory temp;
  const std::string path = temp.path() + "/commits";
  std::string slot("p2cc\x01\x07\0\0\0\0\0\0\0", 13);
  const uint32_t crc = Crc32c(slot);
  for (int i = 0; i < 4; ++i) slot.push_back(static_cast<char>(crc >> (8 * i)));
  WriteWhole(path, std::string(512, '\0') + slot);
  {
    auto counter = CommitCounter::Open(path);
    ASSERT_TRUE(counter.ok()) << counter.status();
    EXPECT_EQ((*counter)->count(), 7u);
    EXPECT_EQ((*counter)->mark(), ManifestMark());
    ASSERT_TRUE((*counter)->Set(8, {.number = 5, .bytes = 300, .crc = 0xfedcba98}).ok());
  }
  EXPECT_EQ((*CommitCounter::Open(path))->mark(), (ManifestMark{.number = 5, .bytes = 300, .crc = 0xfedcba98}));
}

TEST(CommitCounterTest, SaysWhenThereIsNone) {
  const TempDirectory temp;
  EXPECT_TRUE(absl::IsNotFound(CommitCounter::Open(temp.path() + "/commits").status()));
}

TEST(Crc32cTest, GivesTheCheckValue) {
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(Crc32c("6789", Crc32c("12345")), 0xE3069283u);
}

}  // namespace
}  // namespace p2::store
