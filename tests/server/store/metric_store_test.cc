// Metrics: JobStore::ReadMetrics over rocksdb_job_store, and thinning.
#include <cmath>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/store/metric_thinning.h"
#include "server/store/rocksdb_job_store.h"
#include "tests/server/store/records.h"
#include "tests/server/store/temp_directory.h"

namespace p2::store {
namespace {

using scheduler::AppendMetrics;
using scheduler::Mutation;
using ::testing::ElementsAre;
using ::testing::Pair;
using ::testing::SizeIs;

class MetricStoreTest : public ::testing::Test {
 protected:
  MetricStoreTest() { Reopen(); }
  void Reopen() {
    store_.reset();
    store_ =
        *OpenRocksDbJobStore({.database_path = directory_.path() + "/db", .commits_path = directory_.path() + "/c"});
  }
  static AppendMetrics Row(int attempt, uint64_t sequence, int64_t images) {
    return {.job = "job-a",
            .attempt = attempt,
            .sequence = sequence,
            .images_seen = images,
            .step = images / 8,
            .time = kStart + absl::Seconds(images),
            .values = {{"loss", 1.0 / static_cast<double>(images)}, {"mse", 2.0}}};
  }
  void Apply(std::vector<Mutation> mutations) { ASSERT_TRUE(store_->Apply(mutations).ok()); }
  std::vector<MetricRow> Read(MetricPosition after = {}, int limit = 1 << 30) {
    std::vector<MetricRow> rows;
    EXPECT_TRUE(store_
                    ->ReadMetrics("job-a", after,
                                  [&](const MetricRow& row) {
                                    rows.push_back(row);
                                    return static_cast<int>(rows.size()) < limit;
                                  })
                    .ok());
    return rows;
  }
  std::vector<std::tuple<int, uint64_t, bool>> Positions() {
    std::vector<std::tuple<int, uint64_t, bool>> positions;
    for (const MetricRow& row : Read()) positions.emplace_back(row.attempt, row.sequence, row.superseded);
    return positions;
  }

  TempDirectory directory_;
  std::unique_ptr<JobStore> store_;
};

TEST_F(MetricStoreTest, BringsARowBackAsItWas) {
  AppendMetrics row = Row(1, 5, 800);
  row.values["grad_norm"] = HUGE_VAL;
  Apply({row});
  const std::vector<MetricRow> rows = Read();
  ASSERT_THAT(rows, SizeIs(1));
  EXPECT_EQ(rows[0].attempt, 1);
  EXPECT_EQ(rows[0].sequence, 5u);
  EXPECT_EQ(rows[0].images_seen, 800);
  EXPECT_EQ(rows[0].step, 100);
  EXPECT_EQ(rows[0].time, row.time);
  EXPECT_EQ(rows[0].values, row.values);
}

TEST_F(MetricStoreTest, KeepsOrderOverManyBatchesChunksAndRestarts) {
  std::vector<Mutation> batch;
  for (uint64_t sequence = 1; sequence <= 700; ++sequence) {
    batch.push_back(Row(1, 2 * sequence, static_cast<int64_t>(sequence) * 8));
    if (sequence % 35 != 0) continue;
    Apply(std::move(batch));
    batch.clear();
    if (sequence % 350 == 0) Reopen();
  }
  const std::vector<MetricRow> rows = Read();
  ASSERT_THAT(rows, SizeIs(700));
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i].sequence, 2 * (i + 1));
}

TEST_F(MetricStoreTest, DropsRowsThatComeAgain) {
  Apply({Row(1, 1, 8), Row(1, 2, 16), Row(1, 2, 16)});
  Apply({Row(1, 1, 8), Row(1, 2, 16), Row(1, 3, 24)});
  Reopen();
  Apply({Row(1, 3, 24), Row(1, 4, 32)});
  EXPECT_THAT(Read(), SizeIs(4));
}

TEST_F(MetricStoreTest, ReadsFromAnyPoint) {
  std::vector<Mutation> batch;
  for (uint64_t sequence = 1; sequence <= 400; ++sequence)
    batch.push_back(Row(1, sequence, static_cast<int64_t>(sequence)));
  for (uint64_t sequence = 1; sequence <= 10; ++sequence)
    batch.push_back(Row(2, sequence, 400 + static_cast<int64_t>(sequence)));
  Apply(batch);
  for (const uint64_t after : {0, 1, 127, 128, 129, 256, 399}) {
    const std::vector<MetricRow> rows = Read({.attempt = 1, .sequence = after}, 1);
    ASSERT_THAT(rows, SizeIs(1)) << after;
    EXPECT_EQ(rows[0].sequence, after + 1);
  }
  EXPECT_EQ(Read({.attempt = 1, .sequence = 400}, 1)[0].attempt, 2);
  EXPECT_THAT(Read({.attempt = 2, .sequence = 3}), SizeIs(7));
  EXPECT_THAT(Read({.attempt = 2, .sequence = 10}), SizeIs(0));
}

TEST_F(MetricStoreTest, MarksTheAbandonedTailAsSuperseded) {
  Apply({Row(1, 1, 100), Row(1, 2, 200), Row(1, 3, 300)});
  Apply(
      {scheduler::SupersedeMetrics{.job = "job-a", .attempt = 2, .images_seen = 200}, Row(2, 1, 250), Row(2, 2, 350)});
  EXPECT_THAT(Positions(), ElementsAre(std::tuple(1, 1, false), std::tuple(1, 2, false), std::tuple(1, 3, true),
                                       std::tuple(2, 1, false), std::tuple(2, 2, false)));
  // A third attempt that falls back further supersedes points of both.
  Apply({scheduler::SupersedeMetrics{.job = "job-a", .attempt = 3, .images_seen = 100}, Row(3, 1, 150)});
  EXPECT_THAT(Positions(), ElementsAre(std::tuple(1, 1, false), std::tuple(1, 2, true), std::tuple(1, 3, true),
                                       std::tuple(2, 1, true), std::tuple(2, 2, true), std::tuple(3, 1, false)));
}

TEST(ThinTest, KeepsMinimumMaximumAndMean) {
  std::vector<SeriesPoint> points;
  for (int i = 0; i < 1000; ++i) {
    const double value = i == 537 ? 1e6 : i == 538 ? -5 : 1;
    points.push_back({.images_seen = i, .value = value, .min = value, .max = value});
  }
  const std::vector<SeriesPoint> thinned = Thin(points, 10);
  ASSERT_THAT(thinned, SizeIs(10));
  EXPECT_EQ(thinned[5].max, 1e6);
  EXPECT_EQ(thinned[5].min, -5);
  EXPECT_DOUBLE_EQ(thinned[5].value, (98 + 1e6 - 5) / 100);
  EXPECT_EQ(thinned[5].count, 100);
  EXPECT_EQ(thinned[5].images_seen, 599);
  EXPECT_EQ(thinned[4].max, 1);
}

TEST(ThinTest, LeavesShortSeriesAsTheyAre) {
  const std::vector<SeriesPoint> points = {{.images_seen = 1, .value = 3, .min = 3, .max = 3}, {.images_seen = 2}};
  EXPECT_THAT(Thin(points, 2), SizeIs(2));
  EXPECT_THAT(Thin(points, 0), SizeIs(2));
  EXPECT_THAT(Thin(points, 1), SizeIs(1));
}

}  // namespace
}  // namespace p2::store
