#include "server/store/job_store.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/store/memory_job_store.h"
#include "server/store/rocksdb_job_store.h"
#include "tests/server/store/records.h"
#include "tests/server/store/temp_directory.h"

namespace p2::store {
namespace {

using scheduler::JobState;
using scheduler::Mutation;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::Pointee;
using ::testing::SizeIs;

class JobStoreTest : public ::testing::Test {
 protected:
  JobStoreTest() { Reopen(); }
  void Reopen() {
    store_.reset();
    auto store = OpenRocksDbJobStore(
        {.database_path = directory_.path() + "/db", .commits_path = directory_.path() + "/commits"});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
  }
  PersistedState Load() {
    auto state = store_->Load();
    EXPECT_TRUE(state.ok()) << state.status();
    return state.ok() ? *std::move(state) : PersistedState();
  }
  void Apply(std::vector<Mutation> mutations) {
    const absl::Status status = store_->Apply(mutations);
    ASSERT_TRUE(status.ok()) << status;
  }

  TempDirectory directory_;
  std::unique_ptr<JobStore> store_;
};

TEST_F(JobStoreTest, BringsEveryRecordBackAsItWas) {
  Apply({Put(FullJob("job-a")), Put(FullWorker("w0")), Put(FullDataset("mnist")),
         Put(FullCheckpoint("job-a", "000000000100-e3")),
         scheduler::PutDeletion{
             .deletion = {.root_id = "u", .path = std::string("a\0b", 3), .job = "j", .checkpoint = "c"}},
         scheduler::PutArtifact{FullArtifact("job-a", "samples.png")},
         scheduler::AppendEvent{FullEvent(1, "jobs/job-a")},
         scheduler::PutSpec{.sha256 = "aa", .bytes = std::string("\0spec", 5)},
         scheduler::PutRequest{{.request_id = "r-1", .payload_sha256 = "pp", .resource = "jobs/job-a", .time = kStart}},
         scheduler::SetCounters{.job_revision = 3, .event_revision = 4, .create_order = 5}});
  Reopen();
  const PersistedState state = Load();
  EXPECT_THAT(state.jobs, ElementsAre(Pointee(FullJob("job-a"))));
  EXPECT_THAT(state.workers, ElementsAre(Pointee(FullWorker("w0"))));
  EXPECT_THAT(state.datasets, ElementsAre(Pointee(FullDataset("mnist"))));
  EXPECT_THAT(state.checkpoints, ElementsAre(Pointee(FullCheckpoint("job-a", "000000000100-e3"))));
  ASSERT_THAT(state.deletions, SizeIs(1));
  EXPECT_EQ(state.deletions[0],
            (scheduler::Deletion{.root_id = "u", .path = std::string("a\0b", 3), .job = "j", .checkpoint = "c"}));
  EXPECT_EQ(state.counters.job_revision, 3);
  EXPECT_EQ(state.counters.event_revision, 4);
  EXPECT_EQ(state.counters.create_order, 5);
  EXPECT_THAT(*store_->ListArtifacts("job-a"), ElementsAre(FullArtifact("job-a", "samples.png")));
  EXPECT_THAT(*store_->ListEvents("", 0, 10), ElementsAre(FullEvent(1, "jobs/job-a")));
  EXPECT_EQ(*store_->GetSpec("aa"), std::string("\0spec", 5));
  EXPECT_EQ(store_->GetRequest("r-1")->value().resource, "jobs/job-a");
  EXPECT_EQ(store_->GetRequest("r-1")->value().payload_sha256, "pp");
  EXPECT_FALSE(store_->GetRequest("r-2")->has_value());
}

TEST_F(JobStoreTest, LoadsWhatJobsHaveInCommonOnce) {
  Apply({Put(FullJob("job-a")), Put(FullJob("job-b"))});
  Reopen();
  const PersistedState state = Load();
  ASSERT_THAT(state.jobs, SizeIs(2));
  EXPECT_TRUE(state.jobs[0]->needs.SharesWith(state.jobs[1]->needs));
  EXPECT_TRUE(state.jobs[0]->details.SharesWith(state.jobs[1]->details));
}

TEST_F(JobStoreTest, WritesNothingThatIsNotDurable) {
  scheduler::PutJob put = Put(FullJob("job-a"));
  put.durable = false;
  scheduler::PutWorker worker = Put(FullWorker("w0"));
  worker.durable = false;
  Apply({put, worker, scheduler::SetDiskFull{.full = true}});
  EXPECT_THAT(Load().jobs, IsEmpty());
  EXPECT_THAT(Load().workers, IsEmpty());
}

TEST_F(JobStoreTest, KeepsEndedJobsApartFromLiveOnes) {
  Apply({Put(FullJob("job-a"))});
  Apply({Put(FullJob("job-a", JobState::kSucceeded)), Put(FullCheckpoint("job-a", "c"))});
  Reopen();
  EXPECT_THAT(Load().jobs, IsEmpty());
  EXPECT_THAT(Load().checkpoints, IsEmpty());
  EXPECT_EQ((*store_->GetJob("job-a"))->state, JobState::kSucceeded);
  EXPECT_THAT(*store_->ListCheckpoints("job-a"), SizeIs(1));
}

TEST_F(JobStoreTest, ListsEndedJobsNewestFirstPageByPage) {
  for (int i = 1; i <= 5; ++i) {
    scheduler::JobRecord job = FullJob("job-" + std::string(1, static_cast<char>('a' + i)), JobState::kFailed);
    job.create_order = i * 100;
    Apply({Put(job)});
  }
  const auto order = [](int64_t value) { return Pointee(Field(&scheduler::JobRecord::create_order, value)); };
  EXPECT_THAT(*store_->ListFinishedJobs(1000, 2), ElementsAre(order(500), order(400)));
  EXPECT_THAT(*store_->ListFinishedJobs(400, 2), ElementsAre(order(300), order(200)));
  EXPECT_THAT(*store_->ListFinishedJobs(200, 2), ElementsAre(order(100)));
  EXPECT_THAT(*store_->ListFinishedJobs(100, 2), IsEmpty());
}

TEST_F(JobStoreTest, FindsEndedJobsByTheBeginningOfTheirId) {
  for (const char* id : {"job-aa", "job-ab", "job-b"}) Apply({Put(FullJob(id, JobState::kFailed))});
  Apply({Put(FullJob("job-ac", JobState::kRunning))});
  EXPECT_THAT(*store_->FindFinishedJobs("job-a", 10), ElementsAre("job-aa", "job-ab"));
  EXPECT_THAT(*store_->FindFinishedJobs("job-a", 1), ElementsAre("job-aa"));
}

TEST_F(JobStoreTest, ErasesAJobWithAllThatBelongsToIt) {
  for (const char* id : {"job", "job-a"}) {
    scheduler::JobRecord job = FullJob(id, JobState::kCancelled);
    job.create_order = id == std::string("job") ? 1 : 2;
    Apply({Put(job), Put(FullCheckpoint(id, "c")), scheduler::PutArtifact{FullArtifact(id, "a.png")},
           scheduler::AppendMetrics{.job = id, .attempt = 1, .sequence = 1, .values = {{"loss", 1.0}}}});
  }
  Apply({scheduler::EraseJob{.job = "job"}});
  EXPECT_TRUE(absl::IsNotFound(store_->GetJob("job").status()));
  EXPECT_THAT(*store_->ListCheckpoints("job"), IsEmpty());
  EXPECT_THAT(*store_->ListArtifacts("job"), IsEmpty());
  EXPECT_THAT(*store_->ListFinishedJobs(100, 10), SizeIs(1));
  int rows = 0;
  ASSERT_TRUE(store_->ReadMetrics("job", {}, [&](const MetricRow&) { return ++rows > 0; }).ok());
  EXPECT_EQ(rows, 0);
  EXPECT_TRUE(store_->GetJob("job-a").ok());
  EXPECT_THAT(*store_->ListCheckpoints("job-a"), SizeIs(1));
  EXPECT_THAT(*store_->ListArtifacts("job-a"), SizeIs(1));
}

TEST_F(JobStoreTest, AppliesAWholeBatchInOrder) {
  Apply({Put(FullCheckpoint("job-a", "c")), scheduler::EraseCheckpoint{.job = "job-a", .checkpoint = "c"},
         scheduler::PutDeletion{.deletion = {.root_id = "r", .path = "p"}},
         scheduler::EraseDeletion{.root_id = "r", .path = "p"}, Put(FullJob("job-a"))});
  EXPECT_THAT(*store_->ListCheckpoints("job-a"), IsEmpty());
  EXPECT_THAT(Load().deletions, IsEmpty());
  EXPECT_THAT(Load().jobs, SizeIs(1));
}

TEST_F(JobStoreTest, RemembersHowFarAWorkersSpoolIsTaken) {
  Apply({Put(FullWorker("w0"))});
  Apply({scheduler::SetSpoolAck{.worker = "w0", .spool_id = "s-2", .sequence = 900}});
  Reopen();
  const PersistedState state = Load();
  EXPECT_EQ(state.workers[0]->spool_id, "s-2");
  EXPECT_EQ(state.workers[0]->spool_acked, 900u);
}

TEST_F(JobStoreTest, ListsEventsOfAllOrOfOneResource) {
  std::vector<Mutation> batch;
  for (int revision = 1; revision <= 300; ++revision) {
    batch.push_back(scheduler::AppendEvent{FullEvent(revision, revision % 2 == 0 ? "jobs/a" : "jobs/ab")});
  }
  Apply(batch);
  const auto is = [](int64_t revision) { return Field(&scheduler::EventRecord::revision, revision); };
  EXPECT_THAT(*store_->ListEvents("", 255, 3), ElementsAre(is(255), is(256), is(257)));
  EXPECT_THAT(*store_->ListEvents("jobs/a", 255, 3), ElementsAre(is(256), is(258), is(260)));
  EXPECT_THAT(*store_->ListEvents("jobs/a", 299, 3), ElementsAre(is(300)));
  EXPECT_THAT(*store_->ListEvents("jobs/b", 0, 3), IsEmpty());
}

TEST_F(JobStoreTest, ForgetsARequestAfterSevenDaysUnlessItsJobLives) {
  Apply({Put(FullJob("job-a"))});
  const auto put = [](std::string id, std::string resource, absl::Time time) {
    return scheduler::PutRequest{{.request_id = std::move(id), .resource = std::move(resource), .time = time}};
  };
  Apply(
      {put("r-worker", "workers/w0", kStart), put("r-job", "jobs/job-a", kStart), put("r-gone", "jobs/gone", kStart)});
  Apply({put("r-2", "workers/w0", kStart + absl::Hours(6 * 24))});
  EXPECT_TRUE(store_->GetRequest("r-worker")->has_value());
  Apply({put("r-3", "workers/w0", kStart + absl::Hours(8 * 24))});
  EXPECT_FALSE(store_->GetRequest("r-worker")->has_value());
  EXPECT_FALSE(store_->GetRequest("r-gone")->has_value());
  EXPECT_TRUE(store_->GetRequest("r-job")->has_value());
  EXPECT_TRUE(store_->GetRequest("r-2")->has_value());
  Apply({Put(FullJob("job-a", JobState::kFailed)), scheduler::EraseJob{.job = "job-a"}});
  Apply({put("r-4", "workers/w0", kStart + absl::Hours(30 * 24))});
  EXPECT_FALSE(store_->GetRequest("r-job")->has_value());
}

TEST_F(JobStoreTest, ForgetsFasterThanRequestsCome) {
  const auto put = [](int i, absl::Time time) {
    return scheduler::PutRequest{{.request_id = absl::StrCat("r-", i), .resource = "workers/w0", .time = time}};
  };
  std::vector<Mutation> old, recent;
  for (int i = 0; i < 40; ++i) old.push_back(put(i, kStart));
  Apply(old);
  // Ten at once, and then nothing is left of the forty.
  for (int i = 40; i < 50; ++i) recent.push_back(put(i, kStart + absl::Hours(8 * 24)));
  Apply(recent);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(store_->GetRequest(absl::StrCat("r-", i))->has_value(), i >= 40) << i;
}

TEST_F(JobStoreTest, ForgetsAlsoWhatCameBeforeARestartOrWithTheClockSetBack) {
  const auto put = [](std::string id, absl::Time time) {
    return scheduler::PutRequest{{.request_id = std::move(id), .resource = "workers/w0", .time = time}};
  };
  Apply({put("r-old", kStart)});
  Reopen();
  Apply({put("r-new", kStart + absl::Hours(8 * 24))});
  EXPECT_FALSE(store_->GetRequest("r-old")->has_value());
  Apply({put("r-back", kStart + absl::Hours(24))});
  Apply({put("r-later", kStart + absl::Hours(9 * 24))});
  EXPECT_FALSE(store_->GetRequest("r-back")->has_value());
  EXPECT_TRUE(store_->GetRequest("r-new")->has_value());
}

TEST(MemoryJobStoreTest, BehavesAsTheOneOnDisk) {
  const std::unique_ptr<JobStore> store = NewMemoryJobStore();
  ASSERT_TRUE(store->Apply(std::vector<Mutation>{Put(FullJob("job-a"))}).ok());
  EXPECT_THAT(store->Load()->jobs, ElementsAre(Pointee(FullJob("job-a"))));
}

}  // namespace
}  // namespace p2::store
