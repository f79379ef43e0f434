#include "common/file_util.h"

#include <fcntl.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2 {
namespace {

namespace fs = std::filesystem;

class FileUtilTest : public ::testing::Test {
 protected:
  FileUtilTest() { fs::create_directories(dir_); }
  ~FileUtilTest() override { fs::remove_all(dir_); }
  std::string Text(const std::string& path) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const auto bytes = ReadWhole(fd.get(), path, 100);
    return bytes.ok() ? std::string(bytes->begin(), bytes->end()) : bytes.status().ToString();
  }

  const std::string dir_ = ::testing::TempDir() + "/p2-file-util-" + std::to_string(getpid());
};

TEST_F(FileUtilTest, ReplacesAFileWholeAndWithTheModeThatIsAskedFor) {
  const std::string path = dir_ + "/file";
  ASSERT_TRUE(ReplaceFile(path, "one", 0600).ok());
  ASSERT_TRUE(ReplaceFile(path, "two", 0600).ok());
  EXPECT_EQ(Text(path), "two");
  EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_), {}), 1) << "the temporary is gone";
}

TEST_F(FileUtilTest, LeavesTheOldContentWhereTheNewOneCannotBePut) {
  fs::create_directories(dir_ + "/taken/below");
  const absl::Status status = ReplaceFile(dir_ + "/taken", "text");
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(dir_ + "/taken"));
  EXPECT_TRUE(fs::exists(dir_ + "/taken/below"));
  EXPECT_TRUE(absl::IsNotFound(ReplaceFile(dir_ + "/none/file", "text")));
}

TEST_F(FileUtilTest, ADescriptorHasOneOwner) {
  UniqueFd first(open(dir_.c_str(), O_RDONLY | O_CLOEXEC));
  const int number = first.get();
  UniqueFd second(std::move(first));
  EXPECT_FALSE(first.ok());
  EXPECT_EQ(second.get(), number);
  UniqueFd third(open(dir_.c_str(), O_RDONLY | O_CLOEXEC));
  const int replaced = third.get();
  third = std::move(second);
  EXPECT_EQ(third.get(), number);
  EXPECT_EQ(fcntl(replaced, F_GETFD), -1) << "what it held is closed at once";
  EXPECT_EQ(third.release(), number);
  EXPECT_EQ(fcntl(number, F_GETFD), FD_CLOEXEC);
  UniqueFd(number).reset();
  EXPECT_EQ(fcntl(number, F_GETFD), -1);
}

}  // namespace
}  // namespace p2
