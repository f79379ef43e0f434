#include "server/rpc/log_reader.h"

#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/store/temp_directory.h"

namespace p2::rpc {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class LogReaderTest : public ::testing::Test {
 protected:
  LogReaderTest() : blobs_(*store::BlobStore::Open(directory_.path())), reader_(*blobs_, "job-a", 1, 0) {}

  void Write(const std::string& text) {
    ASSERT_TRUE(blobs_->WriteLog("job-a", 1, 0, size_, text).ok());
    size_ += static_cast<int64_t>(text.size());
  }
  std::vector<std::string> Read(bool final = false) {
    std::vector<std::string> lines;
    EXPECT_TRUE(reader_
                    .Read(final,
                          [&](absl::string_view line, int64_t offset) {
                            lines.emplace_back(line);
                            last_offset_ = offset;
                            return true;
                          })
                    .ok());
    return lines;
  }

  store::TempDirectory directory_;
  std::unique_ptr<store::BlobStore> blobs_;
  LogReader reader_;
  int64_t size_ = 0, last_offset_ = 0;
};

TEST_F(LogReaderTest, GivesWholeLinesAsTheyCome) {
  EXPECT_THAT(Read(), IsEmpty());
  Write("one\ntw");
  EXPECT_THAT(Read(), ElementsAre("one"));
  EXPECT_EQ(last_offset_, 4);
  Write("o\r\n\nthr");
  EXPECT_THAT(Read(), ElementsAre("two", ""));
  EXPECT_THAT(Read(/*final=*/true), ElementsAre("thr"));
  EXPECT_EQ(last_offset_, size_);
  EXPECT_THAT(Read(/*final=*/true), IsEmpty());
}

TEST_F(LogReaderTest, BeginsAtTheLastLines) {
  Write("a\nb\nc\nd\n");
  for (const auto& [lines, first] :
       std::vector<std::pair<int, std::string>>{{1, "d"}, {3, "b"}, {4, "a"}, {9, "a"}, {0, "a"}}) {
    ASSERT_TRUE(reader_.SeekToTail(lines).ok());
    EXPECT_EQ(Read().front(), first) << lines;
  }
}

TEST_F(LogReaderTest, BeginsAMegabyteBeforeTheEndAtMost) {
  std::string text;
  while (text.size() < 3'000'000) text += "a line of some length\n";
  Write(text);
  ASSERT_TRUE(reader_.SeekToTail(0).ok());
  const std::vector<std::string> lines = Read();
  EXPECT_LE(lines.size() * 22, static_cast<size_t>(kMaxTailBytes));
  EXPECT_GT(lines.size() * 22, static_cast<size_t>(kMaxTailBytes) - 100);
  EXPECT_EQ(lines.front(), "a line of some length");
}

TEST_F(LogReaderTest, CutsALineThatIsTooLong) {
  Write(std::string(200'000, 'x') + "\nend\n");
  const std::vector<std::string> lines = Read();
  ASSERT_THAT(lines, SizeIs(5));
  EXPECT_EQ(lines[0].size(), static_cast<size_t>(kMaxLineBytes));
  EXPECT_EQ(lines[4], "end");
}

}  // namespace
}  // namespace p2::rpc
