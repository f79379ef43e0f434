// Backups made while p2d writes, and what a restore makes of them.
#include "server/store/backup.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/store/blob_store.h"
#include "server/store/restore.h"
#include "server/store/rocksdb_job_store.h"
#include "tests/server/store/records.h"
#include "tests/server/store/temp_directory.h"

namespace p2::store {
namespace {

namespace fs = std::filesystem;
using scheduler::JobPtr;
using scheduler::JobState;
using scheduler::Mutation;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Ne;
using ::testing::Not;
using ::testing::SizeIs;

class BackupTest : public ::testing::Test {
 protected:
  // A p2d's store in `name`.
  struct Opened {
    std::unique_ptr<DataDirectory> directory;
    std::unique_ptr<Database> database;
    std::unique_ptr<JobStore> jobs;
    std::unique_ptr<BlobStore> blobs;
  };
  static absl::StatusOr<Opened> Open(const std::string& path) {
    Opened opened;
    auto directory = DataDirectory::Open({.path = path});
    if (!directory.ok()) return directory.status();
    opened.directory = *std::move(directory);
    auto database = Database::Open(
        {.database_path = opened.directory->database_path(), .commits_path = opened.directory->commits_path()});
    if (!database.ok()) return database.status();
    opened.database = *std::move(database);
    opened.jobs = NewRocksDbJobStore(*opened.database);
    opened.blobs = *BlobStore::Open(opened.directory->blobs_path());
    return opened;
  }

  BackupTest() { options_.directory = Path("backups"); }
  void SetUp() override {
    auto opened = Open(Path("data"));
    ASSERT_TRUE(opened.ok()) << opened.status();
    live_ = *std::move(opened);
  }

  static void Apply(const Opened& store, std::vector<Mutation> mutations) {
    const absl::Status status = store.jobs->Apply(mutations);
    ASSERT_TRUE(status.ok()) << status;
  }
  void WriteLog(const std::string& text) {
    ASSERT_TRUE(live_.blobs->WriteLog("job-a", 1, 0, 0, text).ok());
    ASSERT_TRUE(live_.blobs->Sync().ok());
  }
  absl::StatusOr<Backup> Create(const std::string& request_id = "", const Cancelled& cancelled = nullptr) {
    if (backups_ == nullptr) backups_ = std::make_unique<Backups>(*live_.database, *live_.directory, options_);
    return backups_->Create(request_id, cancelled);
  }
  std::vector<std::string> Names(const std::string& directory) const {
    std::vector<std::string> names;
    if (!fs::exists(directory)) return names;
    for (const auto& entry : fs::directory_iterator(directory)) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  std::string Path(const std::string& name) const { return directory_.path() + "/" + name; }

  TempDirectory directory_;
  BackupOptions options_;
  Opened live_;
  std::unique_ptr<Backups> backups_;
};

TEST_F(BackupTest, HasAllThatWasAcknowledgedBeforeItBeganThoughWritesGoOn) {
  std::atomic<int> acknowledged = 0;
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (int i = 0; !stop; ++i) {
      Apply(live_, {Put(FullJob(absl::StrCat("job-", 100000 + i)))});
      acknowledged = i + 1;
    }
  });
  while (acknowledged < 20) std::this_thread::yield();
  const int before = acknowledged;
  const auto backup = Create();
  stop = true;
  writer.join();
  ASSERT_TRUE(backup.ok()) << backup.status();

  const auto restored = RestoreBackup(backup->path, Path("new"));
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->commits, backup->commits + 1);
  const auto opened = Open(Path("new"));
  ASSERT_TRUE(opened.ok()) << opened.status();
  const std::vector<JobPtr> jobs = opened->jobs->Load()->jobs;
  EXPECT_THAT(jobs, SizeIs(Ge(before)));
  EXPECT_EQ(restored->live_jobs, static_cast<int>(jobs.size()));
  // Whole batches, the first ones, without a gap.
  for (size_t i = 0; i < jobs.size(); ++i) EXPECT_EQ(jobs[i]->id, absl::StrCat("job-", 100000 + i));
  EXPECT_EQ(backup->commits, jobs.size());
}

TEST_F(BackupTest, BringsLogsAndArtifactsBackByteForByte) {
  WriteLog("line 1\nline 2\n");
  const std::string picture = std::string(3 << 20, 'x');
  for (const int64_t offset : {0, 1 << 20}) {  // Its last piece is still to come.
    ASSERT_TRUE(live_.blobs
                    ->WriteArtifact({.job = "job-a",
                                     .file_name = "a.png",
                                     .offset = offset,
                                     .data = absl::string_view(picture).substr(static_cast<size_t>(offset), 1 << 20),
                                     .size_bytes = 3 << 20,
                                     .sha256 = "whatever"})
                    .ok());
  }
  const auto backup = Create();
  ASSERT_TRUE(backup.ok()) << backup.status();
  ASSERT_TRUE(RestoreBackup(backup->path, Path("new")).ok());
  const auto opened = Open(Path("new"));
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(*opened->blobs->ReadLog("job-a", 1, 0, 0, 100), "line 1\nline 2\n");
  EXPECT_EQ(fs::file_size(Path("new/blobs/artifacts/job-a/a.png.part")), 2 << 20);
}

TEST_F(BackupTest, PutsEveryLiveJobAndItsLiveAttemptAtAnEpochThatNothingRunsAt) {
  scheduler::JobRecord running = FullJob("job-running");
  running.attempts.back().Edit().outcome = scheduler::Outcome::kLive;
  scheduler::JobRecord ended = FullJob("job-ended", JobState::kSucceeded);
  Apply(live_, {Put(running), Put(FullJob("job-waiting", JobState::kQueued)), Put(ended)});
  const auto backup = Create();
  ASSERT_TRUE(backup.ok()) << backup.status();
  const auto restored = RestoreBackup(backup->path, Path("new"));
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->live_jobs, 2);

  const auto opened = Open(Path("new"));
  ASSERT_TRUE(opened.ok()) << opened.status();
  const JobPtr was_running = *opened->jobs->GetJob("job-running");
  EXPECT_EQ(was_running->epoch, 7 + (1 << 20));
  EXPECT_EQ(was_running->live_attempt()->epoch, 7 + (1 << 20));
  const JobPtr waiting = *opened->jobs->GetJob("job-waiting");
  EXPECT_EQ(waiting->epoch, 7 + (1 << 20));
  EXPECT_EQ(waiting->attempts.back()->epoch, 7);  // What has ended keeps what it was.
  EXPECT_EQ(**opened->jobs->GetJob("job-ended"), ended);
}

TEST_F(BackupTest, IsRefusedWhenAnyOfItsFilesDiffersByABit) {
  Apply(live_, {Put(FullJob("job-a"))});
  WriteLog("line 1\n");
  const auto backup = Create();
  ASSERT_TRUE(backup.ok()) << backup.status();
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(backup->path)) {
    if (!entry.is_regular_file() || entry.file_size() == 0) continue;
    ++files;
    const std::string whole = ReadWhole(entry.path());
    std::string flipped = whole;
    flipped[flipped.size() / 2] ^= 0x04;
    WriteWhole(entry.path(), flipped);
    const auto restored = RestoreBackup(backup->path, Path("new"));
    EXPECT_EQ(restored.status().code(), absl::StatusCode::kDataLoss) << entry.path() << ": " << restored.status();
    EXPECT_FALSE(fs::exists(Path("new")));
    WriteWhole(entry.path(), whole);
  }
  EXPECT_THAT(files, Ge(6));  // CURRENT, MANIFEST, a table, the log, backup.json, SHA256SUMS …
  const auto restored = RestoreBackup(backup->path, Path("new"));
  EXPECT_TRUE(restored.ok()) << restored.status();
}

TEST_F(BackupTest, IsRefusedWhenAFileIsMissingOrTooMany) {
  Apply(live_, {Put(FullJob("job-a"))});
  WriteLog("line 1\n");
  const auto backup = Create();
  ASSERT_TRUE(backup.ok()) << backup.status();
  WriteWhole(backup->path + "/db/000099.sst", "");
  EXPECT_EQ(RestoreBackup(backup->path, Path("new")).status().code(), absl::StatusCode::kDataLoss);
  fs::remove(backup->path + "/db/000099.sst");
  fs::remove(backup->path + "/blobs/logs/job-a/attempt-1/rank-0.log");
  const absl::Status missing = RestoreBackup(backup->path, Path("new")).status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(missing.message(), AllOf(HasSubstr("rank-0.log"), HasSubstr("missing")));
  EXPECT_FALSE(fs::exists(Path("new")));
}

TEST_F(BackupTest, RestoresIntoNoDirectoryThatHoldsSomething) {
  const auto backup = Create();
  ASSERT_TRUE(backup.ok()) << backup.status();
  fs::create_directory(Path("new"));
  WriteWhole(Path("new/thesis.txt"), "mine");
  const absl::Status status = RestoreBackup(backup->path, Path("new")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr(Path("new")));
  EXPECT_THAT(Names(Path("new")), ElementsAre("thesis.txt"));
  fs::remove(Path("new/thesis.txt"));
  EXPECT_TRUE(RestoreBackup(backup->path, Path("new")).ok());  // An empty one is taken.
}

TEST_F(BackupTest, IsNotMadeOfADatabaseWhoseTablesAreDamaged) {
  Apply(live_, {Put(FullJob("job-a"))});
  ASSERT_TRUE(Create().ok());  // Flushes to a table.
  std::string largest;         // Not the one that opening reads.
  for (const auto& entry : fs::directory_iterator(Path("data/db"))) {
    if (entry.path().extension() == ".sst" && (largest.empty() || entry.file_size() > fs::file_size(largest)))
      largest = entry.path();
  }
  std::string table = ReadWhole(largest);
  table[10] ^= 0x01;
  WriteWhole(largest, table);
  const std::vector<std::string> before = Names(Path("backups"));
  EXPECT_EQ(Create().status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(Names(Path("backups")), before);
}

TEST_F(BackupTest, KeepsAsManyAsItIsToldAndTheNewestLast) {
  options_.keep = 2;
  std::vector<std::string> ids;
  for (int i = 0; i < 4; ++i) {
    const auto backup = Create();
    ASSERT_TRUE(backup.ok()) << backup.status();
    ids.push_back(backup->id);
  }
  EXPECT_THAT(Names(Path("backups")), ElementsAre(ids[2], ids[3]));
  const auto last = backups_->Last();
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(last->id, ids[3]);
  EXPECT_GT(last->size_bytes, 0);
  EXPECT_GE(last->verify_time, last->create_time);
  EXPECT_GT(last->create_time, absl::Now() - absl::Hours(1));
  EXPECT_THAT(Names(Path("data")), Not(Contains("backup-links")));
}

TEST_F(BackupTest, IsMadeOnceForARequestThatComesAgain) {
  const auto first = Create("r-1");
  EXPECT_EQ(Create("r-1")->id, first->id);
  EXPECT_THAT(Create("r-2")->id, Ne(first->id));
  EXPECT_THAT(Names(Path("backups")), SizeIs(2));
}

TEST_F(BackupTest, LeavesNothingWhenItsCallerLeaves) {
  Apply(live_, {Put(FullJob("job-a"))});
  EXPECT_EQ(Create("", [] { return true; }).status().code(), absl::StatusCode::kCancelled);
  EXPECT_THAT(Names(Path("backups")), IsEmpty());
}

TEST_F(BackupTest, WhatAServerThatDiedInTheMiddleLeftIsRemovedAtTheNextStart) {
  fs::create_directories(Path("backups/20261128-134500-123.part/db"));
  fs::create_directories(Path("backups/mine.part"));
  ASSERT_TRUE(live_.database->LinkCopy(Path("data/backup-links")).ok());
  const Backups backups(*live_.database, *live_.directory, options_);
  EXPECT_THAT(Names(Path("backups")), ElementsAre("mine.part"));
  EXPECT_FALSE(fs::exists(Path("data/backup-links")));
  EXPECT_FALSE(backups.Last().has_value());
}

TEST_F(BackupTest, IsRefusedWhereItWouldFillTheDisk) {
  options_.disk_space = [](const std::string&) { return DiskSpace{.free_bytes = 60, .total_bytes = 1000}; };
  const absl::Status status = Create().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_THAT(status.message(), HasSubstr("--backup-dir"));
  EXPECT_THAT(Names(Path("backups")), IsEmpty());
}

}  // namespace
}  // namespace p2::store
