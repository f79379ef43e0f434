// Metric rows that have become old: JobStore::PrepareThinning and CommitThinning, on both stores.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "p2/storage/v1/records.pb.h"
#include "rocksdb/env.h"
#include "server/store/chunk_thinning.h"
#include "server/store/keys.h"
#include "server/store/memory_job_store.h"
#include "server/store/metric_thinning.h"
#include "server/store/rocksdb_job_store.h"
#include "server/store/store_check.h"
#include "tests/server/store/records.h"
#include "tests/server/store/temp_directory.h"

namespace p2::store {
namespace {

using scheduler::AppendMetrics;
using scheduler::Mutation;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr absl::Duration kDay = absl::Hours(24);
constexpr absl::Duration kAll = absl::InfiniteDuration();  // A budget.
constexpr int kChunk = 128, kThinned = kChunk / 16;        // Rows of a full chunk, and what becomes of them.

class MetricAgeTest : public ::testing::TestWithParam<std::string> {
 protected:
  MetricAgeTest() { Reopen(); }
  void Reopen() {
    store_.reset();
    store_ = GetParam() == "memory" ? NewMemoryJobStore()
                                    : *OpenRocksDbJobStore({.database_path = directory_.path() + "/db",
                                                            .commits_path = directory_.path() + "/c"});
  }
  // p2d gets row n of the first attempt at minute n.
  static AppendMetrics Row(const std::string& job, int attempt, int n) {
    return {.job = job,
            .attempt = attempt,
            .sequence = static_cast<uint64_t>(2 * n),
            .images_seen = 8 * n,
            .step = n,
            .time = kStart + absl::Seconds(n),
            .values = {{"loss", n}},
            .received = kStart + absl::Minutes(n)};
  }
  void Apply(std::vector<Mutation> mutations) { ASSERT_TRUE(store_->Apply(mutations).ok()); }
  // Rows `first` to `last`.
  void Append(const std::string& job, int first, int last, int attempt = 1) {
    std::vector<Mutation> rows;
    for (int n = first; n <= last; ++n) rows.push_back(Row(job, attempt, n));
    Apply(std::move(rows));
  }
  int Thin(absl::Time older_than, absl::Duration budget = kAll) {
    const absl::StatusOr<std::vector<ThinnedChunk>> chunks = store_->PrepareThinning(older_than, budget);
    EXPECT_TRUE(chunks.ok()) << chunks.status();
    if (!chunks.ok()) return -1;
    EXPECT_TRUE(store_->CommitThinning(*chunks).ok());
    return static_cast<int>(chunks->size());
  }
  std::vector<MetricRow> Read(const std::string& job, MetricPosition after = {}) {
    std::vector<MetricRow> rows;
    const absl::Status read = store_->ReadMetrics(job, after, [&](const MetricRow& row) {
      rows.push_back(row);
      return true;
    });
    EXPECT_TRUE(read.ok()) << read;
    return rows;
  }

  TempDirectory directory_;
  std::unique_ptr<JobStore> store_;
};
INSTANTIATE_TEST_SUITE_P(, MetricAgeTest, ::testing::Values("rocksdb", "memory"),
                         [](const auto& info) { return info.param; });

TEST_P(MetricAgeTest, SixteenOldRowsBecomeOneWithMeanAndRangeAtTheLastOfThem) {
  Append("a", 1, kChunk + 1);  // The row after them leaves the chunk.
  EXPECT_EQ(Thin(kStart + kDay), 1);
  const std::vector<MetricRow> rows = Read("a");
  ASSERT_THAT(rows, SizeIs(kThinned + 1));
  const MetricRow& second = rows[1];
  EXPECT_EQ(second.attempt, 1);
  EXPECT_EQ(second.sequence, 64u);
  EXPECT_EQ(second.images_seen, 8 * 32);
  EXPECT_EQ(second.step, 32);
  EXPECT_EQ(second.time, kStart + absl::Seconds(32));
  EXPECT_EQ(second.values.at("loss").mean(), 24.5);
  EXPECT_EQ(second.values.at("loss").count, 16);
  EXPECT_EQ(second.values.at("loss").min, 17);
  EXPECT_EQ(second.values.at("loss").max, 32);
  EXPECT_EQ(rows[kThinned].values.at("loss"), MetricSummary::Of(kChunk + 1));
}

TEST_P(MetricAgeTest, TheAgeIsThatOfTheFullChunkByTheClockOfP2d) {
  Append("a", 1, 3 * kChunk + 1);  // Full at minutes 129, 257 and 385, whatever the workers' clocks say.
  EXPECT_EQ(Thin(kStart + absl::Minutes(129)), 0);
  EXPECT_EQ(Thin(kStart + absl::Minutes(129) + absl::Nanoseconds(1)), 1);
  EXPECT_THAT(Read("a"), SizeIs(kThinned + 2 * kChunk + 1));
  EXPECT_EQ(Thin(kStart + absl::Minutes(300)), 1);
  EXPECT_THAT(Read("a"), SizeIs(2 * kThinned + kChunk + 1));
}

TEST_P(MetricAgeTest, TheOldestChunkOfAllJobsGoesFirstAndABudgetThatIsSpentEndsTheCall) {
  Append("b", 1, kChunk + 1);
  Append("a", kChunk, 2 * kChunk);  // Later.
  EXPECT_EQ(Thin(kStart + kDay, absl::ZeroDuration()), 1);
  EXPECT_THAT(Read("b"), SizeIs(kThinned + 1));
  EXPECT_THAT(Read("a"), SizeIs(kChunk + 1));
  EXPECT_EQ(Thin(kStart + kDay, absl::ZeroDuration()), 1);
  EXPECT_THAT(Read("a"), SizeIs(kThinned + 1));
  EXPECT_EQ(Thin(kStart + kDay, absl::ZeroDuration()), 0);
}

TEST_P(MetricAgeTest, ChunksThatBecameFullBeforeThoseThatWereTakenAreNotForgotten) {
  Append("late", 2 * kChunk, 3 * kChunk);
  EXPECT_EQ(Thin(kStart + kDay), 1);
  Append("a", 1, kChunk + 1);  // The clock was set back.
  const int first = Thin(kStart + kDay);
  EXPECT_EQ(first + Thin(kStart + kDay), 1);
  EXPECT_THAT(Read("a"), SizeIs(kThinned + 1));
}

TEST_P(MetricAgeTest, WhatWasPreparedAndNotCommittedIsDueAgain) {
  Append("a", 1, 2 * kChunk + 1);
  EXPECT_THAT(*store_->PrepareThinning(kStart + kDay, kAll), SizeIs(2));
  EXPECT_THAT(Read("a"), SizeIs(2 * kChunk + 1));
  EXPECT_EQ(Thin(kStart + kDay), 2);
  EXPECT_THAT(Read("a"), SizeIs(2 * kThinned + 1));
}

TEST_P(MetricAgeTest, NothingIsThinnedTwiceAndTheChunkThatGrowsNotAtAll) {
  Append("a", 1, kChunk + 5);
  EXPECT_EQ(Thin(absl::InfiniteFuture()), 1);
  const std::vector<MetricRow> once = Read("a");
  EXPECT_EQ(Thin(absl::InfiniteFuture()), 0);
  Append("a", kChunk + 6, 2 * kChunk);
  EXPECT_EQ(Thin(absl::InfiniteFuture()), 0);
  Append("a", 2 * kChunk + 1, 2 * kChunk + 1);
  EXPECT_EQ(Thin(absl::InfiniteFuture()), 1);
  const std::vector<MetricRow> rows = Read("a");
  ASSERT_THAT(rows, SizeIs(2 * kThinned + 1));
  for (int i = 0; i < kThinned; ++i) EXPECT_EQ(rows[i].values, once[i].values);
}

TEST_P(MetricAgeTest, ACursorGoesOnWhereItStoodAlsoWithinARowOfSeveral) {
  Append("a", 1, kChunk + 1);
  Thin(kStart + kDay);
  const auto next = [&](uint64_t after) { return Read("a", {.attempt = 1, .sequence = after}).front().sequence; };
  EXPECT_EQ(next(0), 32u);
  EXPECT_EQ(next(2), 32u);   // A reader of the first row: it gets the other 15 with it.
  EXPECT_EQ(next(32), 64u);  // One that has seen all of them.
  EXPECT_EQ(next(2 * kChunk), static_cast<uint64_t>(2 * kChunk + 2));
}

TEST_P(MetricAgeTest, RowsThatComeAgainAreDroppedAlsoWhenTheyWereThinned) {
  Append("a", 1, kChunk + 1);
  Thin(kStart + kDay);
  Append("a", 100, kChunk + 2);
  EXPECT_THAT(Read("a"), SizeIs(kThinned + 2));
}

TEST_P(MetricAgeTest, AValueThatWasNotAlwaysReportedCountsWhereItWas) {
  std::vector<Mutation> rows;
  for (int n = 1; n <= kChunk + 1; ++n) {
    AppendMetrics row = Row("a", 1, n);
    if (n % 16 == 3 || n % 16 == 5) row.values["grad_norm"] = n;
    if (n == 40) row.values["fid"] = 7;
    rows.push_back(std::move(row));
  }
  Apply(std::move(rows));
  Thin(kStart + kDay);
  const std::vector<MetricRow> thinned = Read("a");
  EXPECT_EQ(thinned[0].values.at("grad_norm").count, 2);
  EXPECT_EQ(thinned[0].values.at("grad_norm").mean(), 4);
  EXPECT_EQ(thinned[0].values.count("fid"), 0u);
  EXPECT_EQ(thinned[2].values.at("fid"), MetricSummary::Of(7));
  EXPECT_EQ(thinned[2].values.at("loss").count, 16);
}

TEST_P(MetricAgeTest, OfADeletedJobOnlyTheReminderIsLeftAndGoes) {
  Append("a", 1, kChunk + 1);
  Append("b", 1, kChunk + 1);
  Apply({scheduler::EraseJob{.job = "a"}});
  EXPECT_EQ(Thin(kStart + kDay), 2);
  EXPECT_THAT(Read("a"), IsEmpty());
  EXPECT_THAT(Read("b"), SizeIs(kThinned + 1));
  EXPECT_EQ(Thin(kStart + kDay), 0);
}

TEST_P(MetricAgeTest, TheChunkThatAnAttemptLeftUnfinishedIsThinnedToo) {
  Append("a", 1, 20);
  Append("a", 21, 25, /*attempt=*/2);
  EXPECT_EQ(Thin(kStart + kDay), 1);
  const std::vector<MetricRow> rows = Read("a");
  ASSERT_THAT(rows, SizeIs(2 + 5));
  EXPECT_EQ(rows[1].values.at("loss").count, 4);
  EXPECT_EQ(rows[2].attempt, 2);
}

TEST_P(MetricAgeTest, RowsOnBothSidesOfARollbackStayApart) {
  Append("a", 1, 60);
  Apply({scheduler::SupersedeMetrics{.job = "a", .attempt = 2, .images_seen = 8 * 40}});
  Append("a", 41, 45, /*attempt=*/2);
  EXPECT_EQ(Thin(kStart + kDay), 1);
  const std::vector<MetricRow> rows = Read("a");
  // 16, 16 and 8 rows that count, then 16 and 4 that do not.
  ASSERT_THAT(rows, SizeIs(3 + 2 + 5));
  EXPECT_EQ(rows[2].step, 40);
  EXPECT_EQ(rows[2].values.at("loss").count, 8);
  EXPECT_FALSE(rows[2].superseded);
  EXPECT_EQ(rows[3].values.at("loss").min, 41);
  EXPECT_TRUE(rows[3].superseded);
  EXPECT_TRUE(rows[4].superseded);
  EXPECT_FALSE(rows[5].superseded);
}

TEST_P(MetricAgeTest, ARollbackIntoARowOfSeveralSupersedesAllOfIt) {
  Append("a", 1, kChunk + 1);
  Thin(kStart + kDay);
  Apply({scheduler::SupersedeMetrics{.job = "a", .attempt = 2, .images_seen = 8 * 24}});
  const std::vector<MetricRow> rows = Read("a");
  EXPECT_FALSE(rows[0].superseded);  // Up to step 16.
  EXPECT_TRUE(rows[1].superseded);   // Steps 17 to 32.
}

TEST_P(MetricAgeTest, QueriesOfOldRowsAnswerAsThoseOfRawRows) {
  std::mt19937 random(20261128);
  std::vector<Mutation> rows;
  std::vector<int64_t> ends;  // Positions behind which a thinned row ends: a range of whole ones.
  for (int n = 1; n <= 6 * kChunk + 40; ++n) {
    AppendMetrics row = Row("a", 1, n);
    row.values = {{"loss", std::normal_distribution<>(1, 10)(random)}};
    if (random() % 3 == 0) row.values["grad_norm"] = std::exponential_distribution<>(0.1)(random);
    if (random() % 200 == 0) row.values["grad_norm"] = HUGE_VAL;
    rows.push_back(std::move(row));
    if (n % 16 == 0) ends.push_back(8 * n);
  }
  Apply(std::move(rows));
  const auto query = [&](int64_t from, int64_t to) {  // Above `from`, up to `to`.
    MetricThinner thinner({});
    for (const MetricRow& row : Read("a")) {
      if (row.images_seen > from && row.images_seen <= to) thinner.Add(row);
    }
    return thinner.Thin(1);
  };
  const std::vector<MetricRow> raw = Read("a");
  std::vector<std::pair<int64_t, int64_t>> ranges = {{0, 1 << 30}};
  for (int i = 0; i < 50; ++i) {
    const size_t a = random() % ends.size(), b = random() % ends.size();
    if (a != b) ranges.emplace_back(ends[std::min(a, b)], ends[std::max(a, b)]);
  }
  std::vector<MetricThinner::Series> expected;
  for (const auto& [from, to] : ranges) expected.push_back(query(from, to));
  for (int taken = 0; taken < 6; ++taken) EXPECT_EQ(Thin(absl::InfiniteFuture(), absl::ZeroDuration()), 1);
  EXPECT_THAT(Read("a"), SizeIs(6 * kThinned + 40));
  for (size_t i = 0; i < ranges.size(); ++i) {
    const MetricThinner::Series series = query(ranges[i].first, ranges[i].second);
    ASSERT_EQ(series.size(), expected[i].size());
    for (const auto& [name, points] : series) {
      const SeriesPoint &point = points[0], &want = expected[i].at(name)[0];
      EXPECT_EQ(point.count, want.count) << name;
      EXPECT_EQ(point.min, want.min) << name;
      EXPECT_EQ(point.max, want.max) << name;
      EXPECT_EQ(point.images_seen, want.images_seen) << name;
      if (std::isfinite(want.value)) {
        EXPECT_NEAR(point.value, want.value, 1e-12 * std::max(std::abs(want.min), std::abs(want.max))) << name;
      } else {
        EXPECT_EQ(point.value, want.value) << name;
      }
    }
  }
}

TEST(ThinChunkTest, DoesNothingTheSecondTime) {
  p2::storage::v1::MetricChunk chunk;
  chunk.add_names("loss");
  for (int n = 1; n <= 128; ++n) {
    auto* row = chunk.add_rows();
    row->set_sequence(static_cast<uint64_t>(n));
    row->add_columns(0);
    row->add_values(n);
  }
  ThinChunk(chunk, 1 << 30);
  const std::string once = chunk.SerializeAsString();
  ThinChunk(chunk, 1 << 30);
  EXPECT_EQ(chunk.SerializeAsString(), once);
  EXPECT_EQ(chunk.rows_size(), kThinned);
}

// What is on disk.
class MetricAgeOnDiskTest : public MetricAgeTest {
 protected:
  Database& OpenDatabase() {
    store_.reset();
    database_ = *Database::Open({.database_path = directory_.path() + "/db", .commits_path = directory_.path() + "/c"});
    return *database_;
  }
  void Edit(const std::function<void(Batch&)>& edit) {
    Batch batch;
    edit(batch);
    OpenDatabase();
    ASSERT_TRUE(database_->Write(batch).ok());
  }
  std::vector<std::string> Findings() {
    std::vector<std::string> messages;
    const auto report = CheckStore(OpenDatabase(), nullptr);
    for (const StoreFinding& finding : report->findings) messages.push_back(finding.message);
    return messages;
  }
  void Close() {
    database_.reset();
    Reopen();
  }
  // RocksDB's write-ahead log that grows.
  std::string Log() const {
    std::string newest;
    for (const auto& file : std::filesystem::directory_iterator(directory_.path() + "/db")) {
      if (file.path().extension() == ".log") newest = std::max(newest, file.path().string());
    }
    return newest;
  }
  static Key ChunkKey(uint64_t sequence) { return Key(kMetricChunks).Text("a").Number(1).Number(sequence); }

  std::unique_ptr<Database> database_;
};
INSTANTIATE_TEST_SUITE_P(, MetricAgeOnDiskTest, ::testing::Values("rocksdb"));

TEST_P(MetricAgeOnDiskTest, ARestartBetweenRowsOrBetweenTwoCallsChangesNothing) {
  Append("a", 1, kChunk);
  Reopen();
  Append("a", kChunk + 1, 2 * kChunk + 1);
  Reopen();
  EXPECT_EQ(Thin(kStart + kDay, absl::ZeroDuration()), 1);
  Reopen();
  EXPECT_EQ(Thin(kStart + kDay, absl::ZeroDuration()), 1);
  Reopen();
  Append("a", 2 * kChunk + 2, 2 * kChunk + 2);
  EXPECT_EQ(Thin(kStart + kDay), 0);
  EXPECT_THAT(Read("a"), SizeIs(2 * kThinned + 2));
}

// Nobody syncs what thinning writes: a power cut may leave any part of it behind in the log.
TEST_P(MetricAgeOnDiskTest, AfterAPowerCutAThinningIsThereAsAWholeOrDueAgain) {
  Append("a", 1, 2 * kChunk + 1);
  const std::string log = Log();
  const size_t before = std::filesystem::file_size(log);
  EXPECT_EQ(Thin(kStart + kDay), 2);
  const size_t after = std::filesystem::file_size(log);
  ASSERT_GT(after, before + 100);
  const std::string saved = directory_.path() + "/saved";
  std::filesystem::create_directory(saved);
  for (const char* part : {"/db", "/c"}) {
    std::filesystem::copy(directory_.path() + part, saved + part, std::filesystem::copy_options::recursive);
  }
  std::set<size_t> rows_seen;
  for (size_t left = before; left <= after; left += (left < after ? std::min<size_t>(37, after - left) : 1)) {
    store_.reset();
    for (const char* part : {"/db", "/c"}) {
      std::filesystem::remove_all(directory_.path() + part);
      std::filesystem::copy(saved + part, directory_.path() + part, std::filesystem::copy_options::recursive);
    }
    std::filesystem::resize_file(log, left);
    Reopen();
    const size_t rows = Read("a").size();
    rows_seen.insert(rows);
    EXPECT_EQ(Thin(kStart + kDay), rows == 2 * kChunk + 1 ? 2 : 0)
        << "of " << after - before << " bytes " << left - before << " are there";
    EXPECT_THAT(Read("a"), SizeIs(2 * kThinned + 1));
  }
  EXPECT_THAT(rows_seen, ElementsAre(2 * kThinned + 1, 2 * kChunk + 1));
}

// Counts how often a log of RocksDB's is synced.
class SyncCounter : public rocksdb::EnvWrapper {
 public:
  SyncCounter() : rocksdb::EnvWrapper(rocksdb::Env::Default()) {}
  rocksdb::Status NewWritableFile(const std::string& path, std::unique_ptr<rocksdb::WritableFile>* file,
                                  const rocksdb::EnvOptions& options) override {
    std::unique_ptr<rocksdb::WritableFile> base;
    const rocksdb::Status made = target()->NewWritableFile(path, &base, options);
    const bool log = absl::EndsWith(path, ".log");
    if (made.ok()) *file = log ? std::make_unique<Log>(std::move(base), syncs) : std::move(base);
    return made;
  }
  std::atomic<int> syncs = 0;

 private:
  class Log : public rocksdb::WritableFileWrapper {
   public:
    Log(std::unique_ptr<rocksdb::WritableFile> base, std::atomic<int>& syncs)
        : rocksdb::WritableFileWrapper(base.get()), base_(std::move(base)), syncs_(syncs) {}
    rocksdb::Status Sync() override { return ++syncs_, base_->Sync(); }
    rocksdb::Status Fsync() override { return ++syncs_, base_->Fsync(); }

   private:
    const std::unique_ptr<rocksdb::WritableFile> base_;
    std::atomic<int>& syncs_;
  };
};

TEST_P(MetricAgeOnDiskTest, ThinningWaitsForNoSyncAndTheNextCommitOrPreparationSyncsIt) {
  SyncCounter env;
  store_ = *OpenRocksDbJobStore({.database_path = directory_.path() + "/counted", .env = &env});
  Append("a", 1, 2 * kChunk + 1);
  const int before = env.syncs;
  EXPECT_EQ(Thin(kStart + kDay, absl::ZeroDuration()), 1);
  EXPECT_EQ(env.syncs, before);
  EXPECT_EQ(Thin(kStart + kDay, absl::ZeroDuration()), 1);
  EXPECT_EQ(env.syncs, before + 1) << "what the first wrote";
  Append("b", 1, 1);
  EXPECT_EQ(env.syncs, before + 2);
  EXPECT_EQ(Thin(kStart + kDay), 0);
  EXPECT_EQ(env.syncs, before + 2) << "a commit has synced what the second wrote";
  store_.reset();  // Before `env`.
}

TEST_P(MetricAgeOnDiskTest, WhatIsCommittedBehindAThinningMakesItDurable) {
  Append("a", 1, kChunk + 1);
  EXPECT_EQ(Thin(kStart + kDay), 1);
  const size_t thinned = std::filesystem::file_size(Log());
  Append("b", 1, 1);
  std::filesystem::copy(directory_.path() + "/db", directory_.path() + "/cut",
                        std::filesystem::copy_options::recursive);
  const std::string cut = directory_.path() + "/cut/" + std::filesystem::path(Log()).filename().string();
  std::filesystem::resize_file(cut, thinned);
  EXPECT_TRUE(absl::IsDataLoss(
      OpenRocksDbJobStore({.database_path = directory_.path() + "/cut", .commits_path = directory_.path() + "/c"})
          .status()))
      << "the commit behind it is missed";
  Reopen();
  EXPECT_THAT(Read("a"), SizeIs(kThinned + 1));
}

TEST_P(MetricAgeOnDiskTest, ChunksOfAnOlderP2dHaveNoReminderAndStayAsTheyAre) {
  Append("a", 1, kChunk + 1);
  Edit([](Batch& batch) { batch.DeletePrefix(Key(kThinningDue)); });
  Close();
  EXPECT_EQ(Thin(absl::InfiniteFuture()), 0);
  Append("a", kChunk + 2, 2 * kChunk + 1);
  EXPECT_EQ(Thin(absl::InfiniteFuture()), 1);
  EXPECT_THAT(Read("a"), SizeIs(kChunk + kThinned + 1));
}

TEST_P(MetricAgeOnDiskTest, ADamagedChunkIsLeftAndTheOthersAreThinned) {
  Append("a", 1, 2 * kChunk + 1);
  Edit([](Batch& batch) { batch.Put(ChunkKey(2), "\xff\xff"); });
  Close();
  EXPECT_EQ(Thin(absl::InfiniteFuture()), 2);
  EXPECT_THAT(Findings(), ElementsAre(::testing::HasSubstr("no MetricChunk")));
  Close();
  EXPECT_THAT(Read("a", {.attempt = 1, .sequence = 2 * kChunk + 2}), SizeIs(kThinned + 1));
}

TEST_P(MetricAgeOnDiskTest, AdminCheckKnowsThemAndFindsColumnsThatDoNotFit) {
  Append("a", 1, 2 * kChunk + 1);
  EXPECT_EQ(Thin(kStart + absl::Minutes(200)), 1);
  EXPECT_THAT(Findings(), IsEmpty());
  std::string payload = **Database::View(*database_).Get(ChunkKey(2));
  p2::storage::v1::MetricChunk chunk;
  ASSERT_TRUE(chunk.ParseFromString(payload));
  chunk.mutable_rows(3)->mutable_maxs()->RemoveLast();
  database_.reset();
  Edit([&](Batch& batch) { batch.Put(ChunkKey(2), chunk); });
  database_.reset();
  EXPECT_THAT(Findings(), ElementsAre(::testing::HasSubstr("row 128 has 1 columns, 1 values, 1 counts, 1 minima, 0")));
}

}  // namespace
}  // namespace p2::store
