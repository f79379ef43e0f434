#include "worker/agent/files.h"

#include <fcntl.h>

#include <filesystem>
#include <fstream>

#include "common/resource_name.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/agent/temp_dir.h"

namespace p2::agent {
namespace {

using ::testing::HasSubstr;

class FilesTest : public ::testing::Test {
 protected:
  FilesTest() {
    std::filesystem::create_directories(dir_ / "root/jobs/a/deep");
    std::filesystem::create_directories(dir_ / "outside");
    std::ofstream(dir_ / "outside/secret") << "secret";
    std::ofstream(dir_ / "root/jobs/a/deep/file") << "content";
  }

  TempDir dir_;
  const std::string root_ = dir_ / "root";
};

TEST_F(FilesTest, ReadsBelowTheRoot) { EXPECT_EQ(ReadBeneath(root_, "jobs/a/deep/file", 100).value(), "content"); }

TEST_F(FilesTest, RefusesEveryWayOut) {
  std::filesystem::create_symlink(dir_ / "outside", root_ + "/jobs/link");
  std::filesystem::create_symlink(dir_ / "outside/secret", root_ + "/jobs/file-link");
  for (const char* path : {"../outside/secret", "jobs/../../outside/secret", "/etc/passwd", "", "jobs//a", "./jobs",
                           "jobs/", "jobs/link/secret", "jobs/file-link"}) {
    EXPECT_FALSE(ReadBeneath(root_, path, 100).ok()) << path;
    EXPECT_FALSE(OpenBeneath(root_, path, O_RDONLY).ok()) << path;
  }
  EXPECT_FALSE(MakeDirectoriesBeneath(root_, "jobs/link/new").ok());
  EXPECT_FALSE(MakeDirectoriesBeneath(root_, "../new").ok());
  EXPECT_FALSE(DeleteBeneath(root_, "jobs/link/secret").ok());
  EXPECT_FALSE(DeleteBeneath(root_, "jobs/../../outside/secret").ok());
  EXPECT_TRUE(std::filesystem::exists(dir_ / "outside/secret"));
}

TEST_F(FilesTest, DeletesATreeWithoutFollowingItsLinks) {
  std::filesystem::create_directory_symlink(dir_ / "outside", root_ + "/jobs/a/link");
  std::ofstream(root_ + "/jobs/a/more") << "12345";
  EXPECT_EQ(DeleteBeneath(root_, "jobs/a").value(), 12) << "bytes of content and 12345, not of what links name";
  EXPECT_FALSE(std::filesystem::exists(root_ + "/jobs/a"));
  EXPECT_TRUE(std::filesystem::exists(dir_ / "outside/secret"));
  EXPECT_EQ(DeleteBeneath(root_, "jobs/a").value(), 0) << "again";
  EXPECT_EQ(DeleteBeneath(root_, "jobs/never/was").value(), 0);
}

TEST_F(FilesTest, DoesNotDeleteAWholePartOfTheRoot) {
  EXPECT_EQ(DeleteBeneath(root_, "jobs").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::exists(root_ + "/jobs/a"));
}

TEST_F(FilesTest, RemovesWhatIsEmptyUpwardsAndNothingElse) {
  std::filesystem::create_directories(root_ + "/jobs/b/checkpoints");
  EXPECT_TRUE(RemoveEmptyBeneath(root_, "jobs/a/deep", 1).ok());
  EXPECT_TRUE(std::filesystem::exists(root_ + "/jobs/a/deep/file"));
  EXPECT_TRUE(RemoveEmptyBeneath(root_, "jobs/b/checkpoints/gone", 1).ok());
  EXPECT_FALSE(std::filesystem::exists(root_ + "/jobs/b"));
  std::filesystem::remove_all(root_ + "/jobs/a");
  EXPECT_TRUE(RemoveEmptyBeneath(root_, "jobs/a", 1).ok());
  EXPECT_TRUE(std::filesystem::exists(root_ + "/jobs")) << "not of the job";

  std::filesystem::create_directories(dir_ / "outside/empty");
  std::filesystem::create_symlink(dir_ / "outside", root_ + "/jobs/link");
  EXPECT_FALSE(RemoveEmptyBeneath(root_, "jobs/link/empty", 1).ok());
  EXPECT_FALSE(RemoveEmptyBeneath(root_, "../outside/empty", 1).ok());
  EXPECT_TRUE(std::filesystem::exists(dir_ / "outside/empty"));
}

TEST_F(FilesTest, BoundsWhatItReads) {
  const auto read = ReadBeneath(root_, "jobs/a/deep/file", 3);
  EXPECT_EQ(read.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(read.status().message()), HasSubstr("larger than 3 bytes"));
}

TEST(NamesTest, MakesAnIdOfAnyHostName) {
  for (const char* host : {"Node_7.example.com", "127.0.0.1", "", "---", "ümlaut",
                           "a-very-long-name-that-goes-on-and-on-and-on-past-the-sixty-three-characters"})
    EXPECT_TRUE(IsResourceId(ResourceIdFromHost(host))) << host << " -> " << ResourceIdFromHost(host);
  EXPECT_EQ(ResourceIdFromHost("Node_7.example.com"), "node-7-example-com");
}

TEST(NamesTest, TakesOnlyPlainFileNames) {
  EXPECT_TRUE(IsFileName("samples-000012800.png"));
  for (const char* name : {"", ".", "..", ".hidden", "a/b", "../a", "a\nb"}) EXPECT_FALSE(IsFileName(name)) << name;
}

}  // namespace
}  // namespace p2::agent
