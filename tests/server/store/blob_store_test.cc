#include "server/store/blob_store.h"

#include <filesystem>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/store/temp_directory.h"

namespace p2::store {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// SHA-256 of "hello world".
constexpr char kHelloWorld[] = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9";

class BlobStoreTest : public ::testing::Test {
 protected:
  BlobStoreTest() { Reopen(); }
  void Reopen() {
    auto store = BlobStore::Open(directory_.path() + "/blobs");
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
  }
  static ArtifactPiece Piece(int64_t offset, absl::string_view data) {
    return {.job = "job-a",
            .file_name = "samples.png",
            .offset = offset,
            .data = data,
            .size_bytes = 11,
            .sha256 = kHelloWorld};
  }

  TempDirectory directory_;
  std::unique_ptr<BlobStore> store_;
};

TEST_F(BlobStoreTest, KeepsTheBytesOfALogWhenPiecesComeTwice) {
  ASSERT_TRUE(store_->WriteLog("job-a", 1, 0, 0, "one\n").ok());
  ASSERT_TRUE(store_->WriteLog("job-a", 1, 0, 4, "two\n").ok());
  ASSERT_TRUE(store_->Sync().ok());
  Reopen();
  ASSERT_TRUE(store_->WriteLog("job-a", 1, 0, 4, "two\n").ok());
  EXPECT_EQ(*store_->ReadLog("job-a", 1, 0, 0, 100), "one\ntwo\n");
  EXPECT_EQ(*store_->ReadLog("job-a", 1, 0, 4, 2), "tw");
  EXPECT_EQ(*store_->ReadLog("job-a", 1, 0, 8, 100), "");
}

TEST_F(BlobStoreTest, ListsLogsByAttemptThenRank) {
  for (const int attempt : {10, 2}) {
    for (const int rank : {1, 0}) ASSERT_TRUE(store_->WriteLog("job-a", attempt, rank, 0, "x").ok());
  }
  const auto is = [](int attempt, int rank) {
    return AllOf(Field(&LogFile::attempt, attempt), Field(&LogFile::rank, rank), Field(&LogFile::size_bytes, 1));
  };
  EXPECT_THAT(*store_->ListLogs("job-a"), ElementsAre(is(2, 0), is(2, 1), is(10, 0), is(10, 1)));
  EXPECT_THAT(*store_->ListLogs("job-b"), IsEmpty());
}

TEST_F(BlobStoreTest, ShowsAnArtifactOnlyWhenItIsWhole) {
  EXPECT_FALSE(*store_->WriteArtifact(Piece(0, "hello ")));
  EXPECT_TRUE(absl::IsNotFound(store_->ReadArtifact("job-a", "samples.png", 0, 100).status()));
  EXPECT_TRUE(*store_->WriteArtifact(Piece(6, "world")));
  EXPECT_EQ(*store_->ReadArtifact("job-a", "samples.png", 0, 100), "hello world");
}

TEST_F(BlobStoreTest, TakesPiecesAgainAfterTheArtifactIsComplete) {
  ASSERT_TRUE(store_->WriteArtifact(Piece(0, "hello ")).ok());
  ASSERT_TRUE(*store_->WriteArtifact(Piece(6, "world")));
  Reopen();
  EXPECT_FALSE(*store_->WriteArtifact(Piece(3, "lo ")));
  EXPECT_TRUE(*store_->WriteArtifact(Piece(6, "world")));
  EXPECT_EQ(*store_->ReadArtifact("job-a", "samples.png", 0, 100), "hello world");
  EXPECT_FALSE(std::filesystem::exists(directory_.path() + "/blobs/artifacts/job-a/samples.png.part"));
}

TEST_F(BlobStoreTest, DropsAnArtifactThatDoesNotMatchItsDigest) {
  ASSERT_TRUE(store_->WriteArtifact(Piece(0, "hello ")).ok());
  const auto result = store_->WriteArtifact(Piece(6, "wurld"));
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(result.status().message(), HasSubstr("samples.png"));
  ASSERT_TRUE(store_->WriteArtifact(Piece(0, "hello ")).ok());
  EXPECT_TRUE(*store_->WriteArtifact(Piece(6, "world")));
}

TEST_F(BlobStoreTest, RefusesNamesThatLeaveTheDirectory) {
  for (const char* job : {"..", "a/b", "", "A", "a\n", "-a", "../../etc"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(store_->WriteLog(job, 1, 0, 0, "x"))) << job;
    EXPECT_TRUE(absl::IsInvalidArgument(store_->DeleteJob(job))) << job;
  }
  for (const char* file : {"..", ".", "a/b", "/etc/passwd", ".hidden", "x.part", ""}) {
    ArtifactPiece piece = Piece(0, "hello ");
    piece.file_name = file;
    EXPECT_TRUE(absl::IsInvalidArgument(store_->WriteArtifact(piece).status())) << file;
    EXPECT_TRUE(absl::IsInvalidArgument(store_->ReadArtifact("job-a", file, 0, 1).status())) << file;
  }
}

TEST_F(BlobStoreTest, RefusesOffsetsAndSizesThatCannotBe) {
  EXPECT_TRUE(absl::IsInvalidArgument(store_->WriteLog("job-a", 1, 0, -1, "x")));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->WriteLog("job-a", 1, 0, int64_t{1} << 60, "x")));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->WriteLog("job-a", 0, 0, 0, "x")));
  EXPECT_TRUE(absl::IsInvalidArgument(store_->WriteArtifact(Piece(8, "world")).status()));
  ArtifactPiece big = Piece(0, "hello ");
  big.size_bytes = kMaxArtifactBytes + 1;
  EXPECT_TRUE(absl::IsInvalidArgument(store_->WriteArtifact(big).status()));
}

TEST_F(BlobStoreTest, FollowsNoSymbolicLink) {
  ASSERT_TRUE(store_->WriteLog("job-a", 1, 0, 0, "x").ok());
  const std::string secret = directory_.path() + "/secret";
  WriteWhole(secret, "secret");
  std::filesystem::create_symlink(secret, directory_.path() + "/blobs/logs/job-a/attempt-1/rank-7.log");
  EXPECT_FALSE(store_->ReadLog("job-a", 1, 7, 0, 100).ok());
}

TEST_F(BlobStoreTest, DeletesEverythingOfOneJobOnly) {
  ASSERT_TRUE(store_->WriteLog("job-a", 1, 0, 0, "x").ok());
  ASSERT_TRUE(store_->WriteLog("job-b", 1, 0, 0, "x").ok());
  ASSERT_TRUE(store_->WriteArtifact(Piece(0, "hello world")).ok());
  ASSERT_TRUE(store_->DeleteJob("job-a").ok());
  ASSERT_TRUE(store_->DeleteJob("job-a").ok());
  EXPECT_THAT(*store_->ListLogs("job-a"), IsEmpty());
  EXPECT_FALSE(store_->ReadArtifact("job-a", "samples.png", 0, 1).ok());
  EXPECT_EQ(store_->ListLogs("job-b")->size(), 1u);
  EXPECT_TRUE(store_->Sync().ok());
}

}  // namespace
}  // namespace p2::store
