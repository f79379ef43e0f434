// What the store refuses: silent loss, in each form that a disk or a person can cause.
#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rocksdb/db.h"
#include "server/store/commit_counter.h"
#include "server/store/keys.h"
#include "server/store/rocksdb_job_store.h"
#include "tests/server/store/records.h"
#include "tests/server/store/temp_directory.h"

namespace p2::store {
namespace {

namespace fs = std::filesystem;
using scheduler::Mutation;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class StoreDamageTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<JobStore>> Open() {
    return OpenRocksDbJobStore({.database_path = Path("db"), .commits_path = Path("commits")});
  }
  // Opens, writes `jobs` batches and leaves what a crash leaves: a copy of the files while the database is open.
  void WriteAndCrash(int jobs) {
    auto store = Open();
    ASSERT_TRUE(store.ok()) << store.status();
    for (int i = 0; i < jobs; ++i) {
      ASSERT_TRUE((*store)->Apply(std::vector<Mutation>{Put(FullJob("job-" + std::to_string(i)))}).ok());
    }
    fs::remove_all(Path("crashed"));
    fs::copy(Path("db"), Path("crashed"), fs::copy_options::recursive);
    store->reset();
    fs::remove_all(Path("db"));
    fs::rename(Path("crashed"), Path("db"));
  }
  // The log that recovery reads: the largest one.
  std::string Wal() {
    std::string largest;
    for (const auto& entry : fs::directory_iterator(Path("db"))) {
      if (entry.path().extension() == ".log" && (largest.empty() || entry.file_size() > fs::file_size(largest))) {
        largest = entry.path();
      }
    }
    return largest;
  }
  std::string Path(const std::string& name) const { return directory_.path() + "/" + name; }

  TempDirectory directory_;
};

TEST_F(StoreDamageTest, OpensAfterACrashWithEverythingThatWasAcknowledged) {
  WriteAndCrash(8);
  auto store = Open();
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_THAT((*store)->Load()->jobs, SizeIs(8));
}

TEST_F(StoreDamageTest, RefusesAFlippedByteInTheMiddleOfTheLog) {
  WriteAndCrash(15);
  std::string log = ReadWhole(Wal());
  log[log.size() / 2] ^= 0x40;
  WriteWhole(Wal(), log);
  const auto store = Open();
  EXPECT_EQ(store.status().code(), absl::StatusCode::kDataLoss) << store.status();
  EXPECT_THAT(store.status().message(), HasSubstr("backup"));
}

TEST_F(StoreDamageTest, RefusesALogWhoseAcknowledgedEndWasCutOff) {
  WriteAndCrash(15);
  fs::resize_file(Wal(), fs::file_size(Wal()) - 200);
  const auto store = Open();
  EXPECT_EQ(store.status().code(), absl::StatusCode::kDataLoss) << store.status();
  EXPECT_THAT(store.status().message(), AllOf(HasSubstr("15"), HasSubstr("lost")));
}

// RocksDB by itself takes the rest for a MANIFEST that was being written, and serves what that names.
TEST_F(StoreDamageTest, RefusesAManifestWhoseEndWasCutOffOrZeroed) {
  WriteAndCrash(3);
  WriteAndCrash(3);
  const std::string manifest = Path("db/") + ReadWhole(Path("db/CURRENT")).substr(0, 15);
  const std::string whole = ReadWhole(manifest);
  ASSERT_GT(whole.size(), 100u);
  std::string zeroed = whole;
  zeroed.replace(zeroed.size() - 60, 60, 60, '\0');
  for (const std::string& damaged : {whole.substr(0, whole.size() - 1), whole.substr(0, whole.size() / 2), zeroed}) {
    WriteWhole(manifest, damaged);
    const auto store = Open();
    EXPECT_EQ(store.status().code(), absl::StatusCode::kDataLoss) << store.status();
    EXPECT_THAT(store.status().message(), HasSubstr("MANIFEST"));
  }
  // One that was being written when the machine stopped is no damage.
  WriteWhole(manifest, whole + whole.substr(0, 20));
  auto store = Open();
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_THAT((*store)->Load()->jobs, SizeIs(3));
}

TEST_F(StoreDamageTest, RefusesAnOlderManifest) {
  WriteAndCrash(3);
  const std::string older = ReadWhole(Path("db/CURRENT"));
  const std::string bytes = ReadWhole(Path("db/") + older.substr(0, 15));
  WriteAndCrash(3);
  WriteWhole(Path("db/") + older.substr(0, 15), bytes);
  WriteWhole(Path("db/CURRENT"), older);
  const auto store = Open();
  EXPECT_EQ(store.status().code(), absl::StatusCode::kDataLoss) << store.status();
  EXPECT_THAT(store.status().message(), HasSubstr("before"));
}

TEST_F(StoreDamageTest, RefusesADatabaseThatIsGoneBesideItsCounter) {
  WriteAndCrash(3);
  fs::remove_all(Path("db"));
  EXPECT_EQ(Open().status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(StoreDamageTest, RefusesADatabaseWithoutItsCounter) {
  WriteAndCrash(3);
  fs::remove(Path("commits"));
  const auto store = Open();
  EXPECT_EQ(store.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(store.status().message(), HasSubstr("missing"));
}

TEST_F(StoreDamageTest, AcceptsADatabaseAheadOfItsCounterAndBringsThatUp) {
  WriteAndCrash(5);
  { auto counter = CommitCounter::Create(Path("commits"), 4); }
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ((*CommitCounter::Open(Path("commits")))->count(), 5u);
}

TEST_F(StoreDamageTest, RefusesADatabaseBehindItsCounter) {
  WriteAndCrash(5);
  { auto counter = CommitCounter::Create(Path("commits"), 6); }
  const auto store = Open();
  EXPECT_EQ(store.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(store.status().message(), AllOf(HasSubstr("5"), HasSubstr("6")));
}

TEST_F(StoreDamageTest, RefusesANewerSchemaEvenWithFamiliesItDoesNotKnow) {
  WriteAndCrash(1);
  {
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const char* name : kFamilyNames) families.emplace_back(name, rocksdb::ColumnFamilyOptions());
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* raw = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open(rocksdb::DBOptions(), Path("db"), families, &handles, &raw).ok());
    const std::unique_ptr<rocksdb::DB> db(raw);
    const Key key = Key(kMeta).Text("schema_version");
    ASSERT_TRUE(db->Put(rocksdb::WriteOptions(), key.bytes(), EncodeValue(key.bytes(), "3")).ok());
    rocksdb::ColumnFamilyHandle* newer = nullptr;
    ASSERT_TRUE(db->CreateColumnFamily(rocksdb::ColumnFamilyOptions(), "holograms", &newer).ok());
    handles.push_back(newer);
    for (rocksdb::ColumnFamilyHandle* handle : handles) db->DestroyColumnFamilyHandle(handle);
  }
  const auto store = Open();
  EXPECT_EQ(store.status().code(), absl::StatusCode::kFailedPrecondition) << store.status();
  EXPECT_THAT(store.status().message(), AllOf(HasSubstr("schema version 3"), HasSubstr("newer")));
}

TEST_F(StoreDamageTest, RefusesToOpenTwice) {
  auto first = Open();
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(Open().ok());
}

}  // namespace
}  // namespace p2::store
