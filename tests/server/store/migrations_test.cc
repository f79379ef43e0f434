// tests/golden/store-v1: a database that the store of commit 97c7207 (schema 1) wrote: a live job, an ended one and
// what belongs to them. Each schema gets its own; never write one anew.
#include "server/store/migrations.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/store/commit_counter.h"
#include "server/store/rocksdb_job_store.h"
#include "server/store/store_check.h"
#include "tests/server/store/records.h"
#include "tests/server/store/temp_directory.h"

namespace p2::store {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::SizeIs;

class MigrationsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    fs::copy(P2_SOURCE_DIR "/tests/golden/store-v1", directory_.path() + "/data", fs::copy_options::recursive);
    options_ = {.database_path = directory_.path() + "/data/db", .commits_path = directory_.path() + "/data/commits"};
  }

  TempDirectory directory_;
  RocksDbJobStoreOptions options_;
};

TEST_F(MigrationsTest, BringsSchemaOneUpAndLosesNothing) {
  {
    const auto database = Database::Open(options_);
    ASSERT_TRUE(database.ok()) << database.status();
    EXPECT_EQ((*database)->Numbers()->schema_version, kSchemaVersion);
    EXPECT_EQ((*database)->Numbers()->commits, 3u);
    const auto jobs = NewRocksDbJobStore(**database);
    const auto live = jobs->GetJob("job-live"), ended = jobs->GetJob("job-ended");
    ASSERT_TRUE(live.ok() && ended.ok()) << live.status() << ended.status();
    EXPECT_EQ((*live)->order_key, int64_t{42} << 20);
    EXPECT_EQ((*ended)->order_key, int64_t{41} << 20);
    EXPECT_EQ((*live)->attempts.size(), 2u);
    EXPECT_EQ((*live)->latest_checkpoint, "000000000100-e1");
    const auto loaded = jobs->Load();
    EXPECT_THAT(loaded->jobs, SizeIs(1));
    EXPECT_THAT(loaded->checkpoints, SizeIs(1));
    EXPECT_THAT(loaded->workers, SizeIs(1));
    EXPECT_THAT(loaded->datasets, SizeIs(1));
    EXPECT_EQ(loaded->counters.event_revision, 7);
    EXPECT_THAT(*jobs->ListFinishedJobs(1000, 10), SizeIs(1));
  }
  const auto again = Database::Open(options_);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->Numbers()->schema_version, kSchemaVersion);
}

TEST_F(MigrationsTest, KeepsAnOrderThatWasChosen) {
  {
    const auto database = Database::Open(options_);
    const auto jobs = NewRocksDbJobStore(**database);
    scheduler::JobRecord moved = FullJob("job-live");
    moved.order_key = 0;  // Before the first job: a place like any other since schema 2.
    ASSERT_TRUE(jobs->Apply(std::vector<scheduler::Mutation>{Put(moved)}).ok());
  }
  const auto again = Database::Open(options_);
  EXPECT_EQ((*NewRocksDbJobStore(**again)->GetJob("job-live"))->order_key, 0);
}

TEST_F(MigrationsTest, ReadsSchemaOneWithoutChangingAByteOfIt) {
  const auto contents = [&] {
    std::vector<std::pair<std::string, std::string>> files;
    for (const auto& entry : fs::directory_iterator(options_.database_path))
      files.emplace_back(entry.path().filename(), ReadWhole(entry.path()));
    std::sort(files.begin(), files.end());
    return files;
  };
  const auto before = contents();
  {
    const auto database = Database::OpenReadOnly(options_);
    ASSERT_TRUE(database.ok()) << database.status();
    EXPECT_EQ((*database)->Numbers()->schema_version, 1);
    EXPECT_EQ(CheckStore(**database, nullptr)->numbers.commits, 3u);
  }
  EXPECT_EQ(contents(), before);
}

}  // namespace
}  // namespace p2::store
