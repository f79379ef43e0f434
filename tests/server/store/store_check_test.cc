// What `admin check` finds, each kind of damage planted in a store that was whole.
#include "server/store/store_check.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/sha256.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "p2/storage/v1/records.pb.h"
#include "server/store/keys.h"
#include "server/store/rocksdb_job_store.h"
#include "tests/server/store/records.h"
#include "tests/server/store/temp_directory.h"

namespace p2::store {
namespace {

namespace fs = std::filesystem;
using scheduler::JobState;
using scheduler::Mutation;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

auto Finding(const std::string& subject, const std::string& message) {
  return AllOf(Field(&StoreFinding::subject, HasSubstr(subject)), Field(&StoreFinding::message, HasSubstr(message)));
}

class StoreCheckTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Open();
    scheduler::JobRecord live = FullJob("job-live"), ended = FullJob("job-ended", JobState::kFailed);
    ended.create_order = 41;
    for (scheduler::JobRecord* job : {&live, &ended}) {
      job->details.Edit().spec_sha256 = Sha256Hex("spec");
      job->details.Edit().origins_sha256.clear();
    }
    const std::vector<Mutation> whole = {
        scheduler::PutSpec{Sha256Hex("spec"), "spec"},
        Put(live),
        Put(ended),
        Put(FullCheckpoint("job-live", live.latest_checkpoint)),
        Put(FullWorker("w0")),
        Put(FullDataset("mnist")),
        scheduler::PutArtifact{FullArtifact("job-ended", "a.png")},
        scheduler::AppendEvent{FullEvent(7, "jobs/job-live")},
        scheduler::PutRequest{
            {.request_id = "r-1", .payload_sha256 = "aa", .resource = "jobs/job-live", .time = kStart}},
        scheduler::SetCounters{.job_revision = 99, .event_revision = 7, .create_order = 42}};
    const absl::Status status = NewRocksDbJobStore(*database_)->Apply(whole);
    ASSERT_TRUE(status.ok()) << status;
  }
  void Open() {
    auto database = Database::Open({.database_path = Path("db"), .commits_path = Path("commits")});
    ASSERT_TRUE(database.ok()) << database.status();
    database_ = *std::move(database);
  }
  void PutPayload(const Key& key, const std::string& payload) {
    Batch batch;
    batch.Put(key, payload);
    ASSERT_TRUE(database_->Write(batch).ok());
  }
  void Delete(const Key& key) {
    Batch batch;
    batch.Delete(key);
    ASSERT_TRUE(database_->Write(batch).ok());
  }
  std::vector<StoreFinding> Findings() {
    const auto report = CheckStore(*database_, nullptr);
    EXPECT_TRUE(report.ok()) << report.status();
    return report.ok() ? report->findings : std::vector<StoreFinding>();
  }
  std::string Path(const std::string& name) const { return directory_.path() + "/" + name; }

  TempDirectory directory_;
  std::unique_ptr<Database> database_;
};

TEST_F(StoreCheckTest, FindsNothingInAWholeStoreAndCountsWhatIsThere) {
  const auto report = CheckStore(*database_, nullptr);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->findings, IsEmpty());
  EXPECT_EQ(report->finding_count, 0);
  EXPECT_EQ(report->numbers.commits, 1u);
  EXPECT_THAT(report->records, AllOf(Contains(Pair("job", 1)), Contains(Pair("finished", 1)), Contains(Pair("spec", 1)),
                                     Contains(Pair("checkpoint", 1)), Contains(Pair("event", 1)),
                                     Contains(Pair("worker", 1)), Contains(Pair("quota", 0))));
}

TEST_F(StoreCheckTest, FindsALiveJobWithoutItsSpecOrItsLatestCheckpoint) {
  Delete(Key(kSpecs).Text(Sha256Hex("spec")));
  Delete(Key(kCheckpoints).Text("job-live").Text("000000000100-e1"));
  EXPECT_THAT(Findings(), ElementsAre(Finding("jobs/job-live", "spec"), Finding("jobs/job-live", "000000000100-e1"),
                                      Finding("jobs/job-ended", "spec")));
}

TEST_F(StoreCheckTest, FindsAnEndedJobThatItsIndexDoesNotHave) {
  Delete(Key(kFinishedByAge).Number(41));
  EXPECT_THAT(Findings(), ElementsAre(Finding("jobs/job-ended", "index")));
}

TEST_F(StoreCheckTest, FindsAnIndexOfAnEndedJobThatIsGone) {
  Delete(Key(kFinishedJobs).Text("job-ended"));
  EXPECT_THAT(Findings(), ElementsAre(Finding("jobs/job-ended", "no record"), Finding("a.png", "job-ended")));
}

TEST_F(StoreCheckTest, FindsAJobThatIsBothLiveAndEnded) {
  const auto payload = Database::View(*database_).Get(Key(kFinishedJobs).Text("job-ended"));
  PutPayload(Key(kLiveJobs).Text("job-ended"), **payload);
  EXPECT_THAT(Findings(), AllOf(Contains(Finding("jobs/job-ended", "still among the live jobs")),
                                Contains(Finding("jobs/job-ended", "both live and ended"))));
}

TEST_F(StoreCheckTest, FindsCountersBehindWhatWasGiven) {
  p2::storage::v1::Counters counters;
  counters.set_job_revision(98);
  counters.set_event_revision(6);
  counters.set_create_order(41);
  PutPayload(Key(kMeta).Text("counters"), counters.SerializeAsString());
  EXPECT_THAT(Findings(), ElementsAre(Finding("counters", "job_revision is 98, and 99"),
                                      Finding("counters", "event_revision is 6, and 7"),
                                      Finding("counters", "create_order is 41, and 42")));
}

TEST_F(StoreCheckTest, FindsAnEventThatIsInOneOfTheTwoTablesOnly) {
  Delete(Key(kEventsByResource).Text("jobs/job-live").Number(7));
  EXPECT_THAT(Findings(), ElementsAre(Finding("events/7", "index")));
  Delete(Key(kEvents).Number(7));
  PutPayload(Key(kEventsByResource).Text("jobs/job-live").Number(7), "");
  EXPECT_THAT(Findings(), ElementsAre(Finding("events/7", "no record")));
}

TEST_F(StoreCheckTest, FindsARecordThatIsNoMessageAndOneOfNoTable) {
  PutPayload(Key(kWorkers).Text("w1"), "\xff\xff");
  PutPayload(Key(Table{Family::kCluster, 'z'}).Text("what"), "");
  EXPECT_THAT(Findings(), ElementsAre(Finding("w1", "no Worker"), Finding("what", "no known table")));
}

TEST_F(StoreCheckTest, FindsASpecUnderAHashThatIsNotItsOwn) {
  PutPayload(Key(kSpecs).Text(Sha256Hex("spec")), "another");
  EXPECT_THAT(Findings(), ElementsAre(Finding(Sha256Hex("spec"), Sha256Hex("another"))));
}

TEST_F(StoreCheckTest, FindsAFlippedByteInATable) {
  ASSERT_TRUE(database_->LinkCopy(Path("flushed")).ok());  // Flushes to tables.
  std::string largest;                                     // Not the one that opening reads.
  for (const auto& entry : fs::directory_iterator(Path("flushed"))) {
    if (entry.path().extension() == ".sst" && (largest.empty() || entry.file_size() > fs::file_size(largest)))
      largest = entry.path();
  }
  std::string table = ReadWhole(largest);
  table[10] ^= 0x01;
  WriteWhole(largest, table);
  const auto database = Database::OpenReadOnly({.database_path = Path("flushed")});
  ASSERT_TRUE(database.ok()) << database.status();
  const auto report = CheckStore(**database, nullptr);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_THAT(report->findings, Contains(Finding("database", "damaged")));
}

TEST_F(StoreCheckTest, StopsWhenItsCallerLeaves) {
  Batch batch;
  for (int i = 0; i < 3000; ++i) batch.Put(Key(kQuotas).Text(std::to_string(i)), "");
  ASSERT_TRUE(database_->Write(batch).ok());
  EXPECT_EQ(CheckStore(*database_, [] { return true; }).status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace p2::store
