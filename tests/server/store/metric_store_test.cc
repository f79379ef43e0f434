// Metrics: JobStore::ReadMetrics over rocksdb_job_store, and thinning.
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/store/database.h"
#include "server/store/keys.h"
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
using ::testing::UnorderedElementsAre;

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
  EXPECT_THAT(rows[0].values,
              UnorderedElementsAre(Pair("loss", MetricSummary::Of(1.0 / 800)), Pair("mse", MetricSummary::Of(2)),
                                   Pair("grad_norm", MetricSummary::Of(HUGE_VAL))));
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

TEST_F(MetricStoreTest, RowsBetweenTwoPositionsAreThoseOfTheFullRead) {
  std::mt19937 random(20261128);
  const auto draw = [&random](int64_t from, int64_t to) {
    return std::uniform_int_distribution<int64_t>(from, to)(random);
  };
  int64_t images = 1, highest = 1;
  bool grows = true;
  for (int attempt = 1; attempt <= 12; ++attempt) {
    std::vector<Mutation> batch;
    if (attempt > 1) {
      images = draw(1, images);  // From a checkpoint before.
      batch.push_back(scheduler::SupersedeMetrics{.job = "job-a", .attempt = attempt, .images_seen = images});
    }
    uint64_t sequence = static_cast<uint64_t>(draw(1, 1000));
    for (int64_t rows = draw(0, 3) * draw(0, 300); rows > 0; --rows) {
      batch.push_back(Row(attempt, sequence, images));
      sequence += static_cast<uint64_t>(draw(1, draw(0, 9) == 0 ? 1000 : 3));
      grows ^= draw(0, 100) == 0;
      images += grows ? draw(0, 3) * draw(0, 20) : 0;  // Rows at one position, also beyond a chunk, and gaps.
    }
    highest = std::max(highest, images);
    Apply(std::move(batch));
  }
  for (const bool thinned : {false, true}) {
    if (thinned) {
      const auto chunks = store_->PrepareThinning(absl::InfiniteFuture(), absl::InfiniteDuration());
      ASSERT_GT(chunks->size(), 5u);
      ASSERT_TRUE(store_->CommitThinning({chunks->begin(), chunks->begin() + 5}).ok());  // The others are raw.
    }
    const std::vector<MetricRow> all = Read();
    ASSERT_GT(all.size(), 1000u);
    const auto position = [&] {
      const MetricRow& row = all[static_cast<size_t>(draw(0, static_cast<int64_t>(all.size()) - 1))];
      return row.images_seen + draw(-1, 1);
    };
    std::vector<std::pair<int64_t, int64_t>> ranges = {
        {0, highest + 1}, {0, 0}, {highest + 1, 1 << 30}, {highest, highest}};
    while (ranges.size() < 200) {
      const int64_t a = position(), b = position();
      ranges.emplace_back(std::min(a, b), std::max(a, b));
      ranges.emplace_back(a, 1 << 30);
    }
    for (const auto& [from, to] : ranges) {
      std::vector<std::tuple<int, uint64_t, bool>> expected, got;
      for (const MetricRow& row : all) {
        if (row.images_seen >= from && row.images_seen <= to)
          expected.emplace_back(row.attempt, row.sequence, row.superseded);
      }
      ASSERT_TRUE(store_
                      ->ReadMetricsBetween(
                          "job-a", from, to,
                          [&](const MetricRow& row) { got.emplace_back(row.attempt, row.sequence, row.superseded); })
                      .ok());
      ASSERT_EQ(got, expected) << from << " to " << to;
    }
  }
}

TEST_F(MetricStoreTest, RowsOfTheEndAreReadWithoutThoseBeforeThem) {
  std::vector<Mutation> batch;
  for (int n = 1; n <= 100 * 128; ++n) batch.push_back(Row(1, static_cast<uint64_t>(n), n));
  Apply(std::move(batch));
  store_.reset();
  {
    auto database =
        *Database::Open({.database_path = directory_.path() + "/db", .commits_path = directory_.path() + "/c"});
    Batch damage;
    damage.Put(Key(kMetricChunks).Text("job-a").Number(1).Number(1 + 128), "no chunk");
    ASSERT_TRUE(database->Write(damage).ok());
  }
  Reopen();
  int rows = 0;
  const auto read = [&](int64_t from, int64_t to) {
    rows = 0;
    return store_->ReadMetricsBetween("job-a", from, to, [&rows](const MetricRow&) { ++rows; });
  };
  EXPECT_TRUE(absl::IsDataLoss(read(1, 1 << 30)));
  EXPECT_TRUE(read(12'000, 1 << 30).ok());
  EXPECT_EQ(rows, 801);
  EXPECT_TRUE(read(1, 100).ok()) << "nor those behind them";
  EXPECT_EQ(rows, 100);
}

MetricRow RowOf(int64_t images, std::map<std::string, double> values) {
  MetricRow row{.attempt = 1, .images_seen = images, .step = images / 8};
  for (const auto& [name, value] : values) row.values.emplace(name, MetricSummary::Of(value));
  return row;
}

TEST(MetricThinnerTest, KeepsMinimumMaximumAndMean) {
  MetricThinner thinner({});
  for (int i = 0; i < 1000; ++i) thinner.Add(RowOf(i, {{"loss", i == 537 ? 1e6 : i == 538 ? -5 : 1}}));
  const std::vector<SeriesPoint> thinned = thinner.Thin(10).at("loss");
  ASSERT_THAT(thinned, SizeIs(10));
  EXPECT_EQ(thinned[5].max, 1e6);
  EXPECT_EQ(thinned[5].min, -5);
  EXPECT_DOUBLE_EQ(thinned[5].value, (98 + 1e6 - 5) / 100);
  EXPECT_EQ(thinned[5].count, 100);
  EXPECT_EQ(thinned[5].images_seen, 599);
  EXPECT_EQ(thinned[4].max, 1);
}

TEST(MetricThinnerTest, APointOfPointsSaysWhatOneOfAllTheirRowsWould) {
  MetricThinner whole({}), of_parts({});
  for (int part = 0; part < 4; ++part) {
    MetricRow thinned;
    for (int i = 16 * part; i < 16 * part + 16; ++i) {
      // In every other part the first value, or all of them, are no numbers.
      const double value = part == 1 || (part == 3 && i % 16 == 0) ? std::nan("") : i * i % 37;
      whole.Add(RowOf(i, {{"loss", i}, {"vb", value}}));
      thinned.images_seen = i;
      thinned.values["loss"].Add(MetricSummary::Of(i));
      thinned.values["vb"].Add(MetricSummary::Of(value));
    }
    of_parts.Add(thinned);
  }
  for (const char* name : {"loss", "vb"}) {
    const SeriesPoint expected = whole.Thin(1).at(name)[0], point = of_parts.Thin(1).at(name)[0];
    EXPECT_EQ(point.count, 64);
    EXPECT_EQ(point.min, expected.min) << name;
    EXPECT_EQ(point.max, expected.max) << name;
    EXPECT_EQ(point.images_seen, expected.images_seen);
  }
  EXPECT_DOUBLE_EQ(of_parts.Thin(1).at("loss")[0].value, 31.5);
  EXPECT_TRUE(std::isnan(of_parts.Thin(1).at("vb")[0].value));
  EXPECT_EQ(of_parts.Thin(1).at("vb")[0].max, 36);
  // Alone, a thinned row shows its range.
  EXPECT_EQ(of_parts.Thin(0).at("loss")[2].count, 16);
  EXPECT_EQ(of_parts.Thin(0).at("loss")[2].min, 32);
  EXPECT_EQ(of_parts.Thin(0).at("loss")[2].max, 47);
}

TEST(MetricThinnerTest, LeavesShortSeriesAsTheyAre) {
  MetricThinner thinner({});
  thinner.Add(RowOf(1, {{"loss", 3}}));
  thinner.Add(RowOf(2, {{"loss", 0.1}}));
  for (const size_t points : {0, 2, 100}) {
    const std::vector<SeriesPoint> all = thinner.Thin(points).at("loss");
    ASSERT_THAT(all, SizeIs(2));
    EXPECT_EQ(all[0].value, 3);
    EXPECT_EQ(all[0].count, 1);
    EXPECT_EQ(all[1].value, 0.1);
  }
  EXPECT_THAT(thinner.Thin(1).at("loss"), SizeIs(1));
  EXPECT_THAT(MetricThinner({}).Thin(5), ::testing::IsEmpty());
}

TEST(MetricThinnerTest, PointsOfSeriesThatWereNotAlwaysReportedLineUp) {
  MetricThinner thinner({"loss", "grad_norm"});
  // The gradient's norm misses in every third row, and in a whole run.
  for (int i = 0; i < 300; ++i) {
    std::map<std::string, double> values = {{"loss", i}, {"other", 1}};
    if (i % 3 != 0 && i >= 30) values["grad_norm"] = i;
    thinner.Add(RowOf(i, std::move(values)));
  }
  thinner.Add(RowOf(300, {{"other", 1}}));  // No row of this query.
  const MetricThinner::Series series = thinner.Thin(10);
  EXPECT_THAT(series, SizeIs(2));
  const std::vector<SeriesPoint>&loss = series.at("loss"), &norm = series.at("grad_norm");
  ASSERT_THAT(loss, SizeIs(10));
  ASSERT_THAT(norm, SizeIs(9));
  for (size_t i = 0; i < norm.size(); ++i) {
    EXPECT_EQ(norm[i].images_seen, loss[i + 1].images_seen);
    EXPECT_EQ(norm[i].count, 20);
    EXPECT_EQ(loss[i + 1].count, 30);
  }
  EXPECT_EQ(loss[9].images_seen, 299);
}

TEST(MetricThinnerTest, HoldsABoundedNumberOfValuesAndStillKnowsEverySpike) {
  MetricThinner thinner({}, /*max_cells=*/4000);
  constexpr int kRows = 100'000;
  for (int i = 0; i < kRows; ++i) {
    thinner.Add(RowOf(i, {{"loss", i == 77'777 ? 1e9 : 1.0}, {"mse", i == 12'345 ? -1e9 : 2.0}}));
  }
  EXPECT_LE(thinner.runs(), 1000u);
  EXPECT_GE(thinner.runs(), 500u);
  int64_t rows = 0;
  double highest = 0, lowest = 0;
  for (const SeriesPoint& point : thinner.Thin(0).at("loss")) {
    rows += point.count;
    highest = std::max(highest, point.max);
  }
  for (const SeriesPoint& point : thinner.Thin(20).at("mse")) lowest = std::min(lowest, point.min);
  EXPECT_EQ(rows, kRows);
  EXPECT_EQ(highest, 1e9);
  EXPECT_EQ(lowest, -1e9);
  EXPECT_EQ(thinner.Thin(20).at("mse").back().images_seen, kRows - 1);
}

}  // namespace
}  // namespace p2::store
