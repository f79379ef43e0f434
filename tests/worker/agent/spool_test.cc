#include "worker/agent/spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>

#include "common/crc32c.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/agent/temp_dir.h"

namespace p2::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

p2::v1::SpoolRecord Log(const std::string& text) {
  p2::v1::SpoolRecord record;
  record.set_job("job-a");
  record.mutable_log()->set_data(text);
  return record;
}

std::vector<std::string> Contents(const Spool& spool) {
  std::vector<std::string> texts;
  EXPECT_TRUE(spool.ForEach([&](const p2::v1::SpoolRecord& record) { texts.push_back(record.log().data()); }).ok());
  return texts;
}

std::vector<std::string> Segments(const std::string& dir) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(dir))
    if (entry.path().extension() == ".spool") paths.push_back(entry.path().string());
  std::sort(paths.begin(), paths.end());
  return paths;
}

class SpoolTest : public ::testing::Test {
 protected:
  std::unique_ptr<Spool> Open(int64_t segment_bytes = 1 << 20, int64_t limit_bytes = 1 << 20) {
    auto spool = Spool::Open({.dir = dir_ / "spool", .limit_bytes = limit_bytes, .segment_bytes = segment_bytes});
    EXPECT_TRUE(spool.ok()) << spool.status();
    return spool.ok() ? *std::move(spool) : nullptr;
  }

  TempDir dir_;
};

TEST(Crc32cTest, EqualsThePublishedCheckValue) { EXPECT_EQ(Crc32c("123456789"), 0xe3069283u); }

TEST_F(SpoolTest, NumbersRecordsFromOneAndKeepsThemOverARestart) {
  std::string id;
  {
    auto spool = Open();
    id = spool->id();
    EXPECT_EQ(spool->Append(Log("a")), 1u);
    EXPECT_EQ(spool->Append(Log("b")), 2u);
    ASSERT_TRUE(spool->Flush().ok());
  }
  auto spool = Open();
  EXPECT_EQ(spool->id(), id);
  EXPECT_THAT(Contents(*spool), ElementsAre("a", "b"));
  EXPECT_EQ(spool->Append(Log("c")), 3u);
}

TEST_F(SpoolTest, ShowsOnlyWhatIsSynced) {
  auto spool = Open();
  spool->Append(Log("a"));
  EXPECT_EQ(spool->synced(), 0u);
  EXPECT_EQ(spool->Read(1).status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(spool->Flush().ok());
  EXPECT_EQ(spool->Read(1)->log().data(), "a");
}

TEST_F(SpoolTest, CutsOffATornTailAtEveryByteAndGoesOn) {
  {
    auto spool = Open();
    spool->Append(Log("first"));
    spool->Append(Log("second"));
    ASSERT_TRUE(spool->Flush().ok());
  }
  const std::string path = Segments(dir_ / "spool").front();
  std::ifstream in(path, std::ios::binary);
  const std::string whole((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const size_t first_size = whole.size() / 2;  // "second" is a byte longer, so the cut falls inside it from here on.
  for (size_t size = whole.size() - 1; size > first_size; --size) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << whole.substr(0, size);
    auto spool = Open();
    ASSERT_NE(spool, nullptr) << size;
    EXPECT_THAT(Contents(*spool), ElementsAre("first")) << size;
    EXPECT_EQ(spool->Append(Log("again")), 2u);
    ASSERT_TRUE(spool->Flush().ok());
    EXPECT_THAT(Contents(*Open()), ElementsAre("first", "again"));
  }
}

TEST_F(SpoolTest, TreatsATailOfZerosAsTorn) {
  {
    auto spool = Open();
    spool->Append(Log("first"));
    ASSERT_TRUE(spool->Flush().ok());
  }
  std::ofstream(Segments(dir_ / "spool").front(), std::ios::binary | std::ios::app) << std::string(100, '\0');
  EXPECT_THAT(Contents(*Open()), ElementsAre("first"));
}

TEST_F(SpoolTest, RefusesDamageBeforeTheTailAndSaysWhatToDo) {
  {
    auto spool = Open();
    spool->Append(Log("first"));
    spool->Append(Log("second"));
    ASSERT_TRUE(spool->Flush().ok());
  }
  const int fd = open(Segments(dir_ / "spool").front().c_str(), O_RDWR);
  ASSERT_EQ(pwrite(fd, "X", 1, 10), 1);
  close(fd);
  const auto spool = Spool::Open({.dir = dir_ / "spool"});
  EXPECT_EQ(spool.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(spool.status().message()), HasSubstr("away to start without"));
}

TEST_F(SpoolTest, RefusesAMissingSegmentInTheMiddle) {
  {
    auto spool = Open(/*segment_bytes=*/1);
    for (const char* text : {"a", "b", "c"}) {
      spool->Append(Log(text));
      ASSERT_TRUE(spool->Flush().ok());
    }
  }
  const std::vector<std::string> segments = Segments(dir_ / "spool");
  ASSERT_THAT(segments, SizeIs(3));
  std::filesystem::remove(segments[1]);
  EXPECT_EQ(Spool::Open({.dir = dir_ / "spool"}).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(SpoolTest, DeletesSegmentsOnceAllOfThemIsAcknowledged) {
  auto spool = Open(/*segment_bytes=*/1);
  for (const char* text : {"a", "b", "c"}) {
    spool->Append(Log(text));
    ASSERT_TRUE(spool->Flush().ok());
  }
  EXPECT_TRUE(spool->AckDrops(1));
  ASSERT_TRUE(spool->Ack(1).ok());
  EXPECT_THAT(Contents(*spool), ElementsAre("b", "c"));
  EXPECT_THAT(Segments(dir_ / "spool"), SizeIs(2));
  ASSERT_TRUE(spool->Ack(3).ok());
  EXPECT_EQ(spool->unacked_bytes(), 0);
}

TEST_F(SpoolTest, GoesOnCountingAfterEverythingWasAcknowledgedAndDropped) {
  {
    auto spool = Open(/*segment_bytes=*/1);
    spool->Append(Log("a"));
    ASSERT_TRUE(spool->Flush().ok());
    EXPECT_TRUE(spool->AckDrops(1));
    ASSERT_TRUE(spool->Ack(1).ok());
    EXPECT_THAT(Contents(*spool), ElementsAre());
  }
  auto spool = Open();
  EXPECT_EQ(spool->synced(), 1u);
  EXPECT_EQ(spool->Append(Log("b")), 2u);
}

TEST_F(SpoolTest, RefusesAnAcknowledgementOfWhatItNeverHad) {
  auto spool = Open();
  spool->Append(Log("a"));
  ASSERT_TRUE(spool->Flush().ok());
  EXPECT_EQ(spool->Ack(2).code(), absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(spool->Ack(1).ok());
  EXPECT_TRUE(spool->Ack(0).ok()) << "an older one is ignored";
  EXPECT_EQ(spool->acked(), 1u);
}

TEST_F(SpoolTest, GivesUpLogsBeforeMetricsBeforeNothingAsItFills) {
  auto spool = Open(/*segment_bytes=*/1 << 20, /*limit_bytes=*/1000);
  EXPECT_EQ(spool->room(), Spool::Room::kAll);
  spool->Append(Log(std::string(760, 'x')));
  EXPECT_EQ(spool->room(), Spool::Room::kNoLogsOrArtifacts);
  ASSERT_TRUE(spool->Flush().ok());
  spool->Append(Log(std::string(300, 'x')));
  EXPECT_EQ(spool->room(), Spool::Room::kStatesOnly);
  ASSERT_TRUE(spool->Flush().ok());
  ASSERT_TRUE(spool->Ack(2).ok());
  EXPECT_EQ(spool->room(), Spool::Room::kAll);
}

}  // namespace
}  // namespace p2::agent
