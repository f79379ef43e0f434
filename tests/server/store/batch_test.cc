#include "server/store/batch.h"

#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rocksdb/env.h"
#include "server/store/database.h"
#include "server/store/keys.h"

namespace p2::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class BatchTest : public ::testing::Test {
 protected:
  void Write(Batch batch) {
    const absl::Status status = database_->Write(batch);
    ASSERT_TRUE(status.ok()) << status;
  }
  std::vector<std::string> Values(const Key& prefix) const {
    std::vector<std::string> values;
    const absl::Status status =
        Database::View(*database_).Scan(prefix, "", [&](absl::string_view, absl::string_view value) {
          values.emplace_back(value);
          return true;
        });
    EXPECT_TRUE(status.ok()) << status;
    return values;
  }

  std::unique_ptr<rocksdb::Env> env_{rocksdb::NewMemEnv(rocksdb::Env::Default())};
  std::unique_ptr<Database> database_ = *Database::Open({.database_path = "/memory", .env = env_.get()});
};

TEST_F(BatchTest, OfSeveralChangesOfAKeyTheLastOneCounts) {
  Batch batch;
  batch.Put(Key(kLiveJobs).Text("put-put"), "old");
  batch.Put(Key(kLiveJobs).Text("put-delete"), "old");
  batch.Delete(Key(kLiveJobs).Text("delete-put"));
  for (int i = 0; i < 100; ++i) batch.Put(Key(kLiveJobs).Text("z"), std::to_string(i));
  batch.Put(Key(kLiveJobs).Text("put-put"), "new");
  batch.Delete(Key(kLiveJobs).Text("put-delete"));
  batch.Put(Key(kLiveJobs).Text("delete-put"), "there");
  Write(std::move(batch));
  EXPECT_THAT(Values(Key(kLiveJobs)), ElementsAre("there", "new", "99"));
}

TEST_F(BatchTest, KeysOfDifferentFamiliesAreDifferentKeys) {
  Batch batch;  // The letter of both tables is j.
  batch.Put(Key(kFinishedJobs).Text("a"), "finished");
  batch.Put(Key(kLiveJobs).Text("a"), "live");
  Write(std::move(batch));
  EXPECT_THAT(Values(Key(kLiveJobs)), ElementsAre("live"));
  EXPECT_THAT(Values(Key(kFinishedJobs)), ElementsAre("finished"));
}

TEST_F(BatchTest, APrefixTakesWhatWasThereAndWhatWasPutBeforeButNotWhatIsPutAfterwards) {
  Batch stored;
  stored.Put(Key(kCheckpoints).Text("a").Text("1"), "stored");
  stored.Put(Key(kCheckpoints).Text("ab").Text("1"), "another job's");
  Write(std::move(stored));
  Batch batch;
  batch.Put(Key(kCheckpoints).Text("a").Text("2"), "before");
  batch.Put(Key(kArtifacts).Text("a").Text("2"), "of another table");
  batch.DeletePrefix(Key(kCheckpoints).Text("a"));
  batch.Put(Key(kCheckpoints).Text("a").Text("3"), "after");
  Write(std::move(batch));
  EXPECT_THAT(Values(Key(kCheckpoints)), ElementsAre("after", "another job's"));
  EXPECT_THAT(Values(Key(kArtifacts)), ElementsAre("of another table"));
}

TEST_F(BatchTest, IsEmptyUntilSomethingChanges) {
  Batch batch;
  EXPECT_TRUE(batch.empty());
  batch.DeletePrefix(Key(kCheckpoints).Text("a"));
  EXPECT_FALSE(batch.empty());
  Write(std::move(batch));
  EXPECT_THAT(Values(Key(kCheckpoints)), IsEmpty());
}

}  // namespace
}  // namespace p2::store
