// QueryMetrics of jobs whose rows are too many for one answer, and of old ones.
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "p2/v1/metric_service.grpc.pb.h"
#include "server/store/rocksdb_job_store.h"
#include "tests/server/rpc/server_fixture.h"

namespace p2::server {
namespace {

using p2::v1::QueryMetricsRequest;
using p2::v1::QueryMetricsResponse;
using ::testing::SizeIs;

constexpr size_t kGrpcLimit = size_t{4} << 20;
constexpr int64_t kBatch = 8;  // Images a row.

class MetricServiceTest : public ServerFixture {
 protected:
  MetricServiceTest() {
    Prepare();  // A worker is gone again; its root and the dataset stay.
    job_ = Create(TinyRequest())->job().name();
  }
  ~MetricServiceTest() override { StopServer(); }

  // Puts `rows` rows into the job's store while no p2d has it, got at `received`; `values` gives those of a row.
  template <typename Values>
  void Store(int64_t rows, Values values, absl::Time received = absl::Now()) {
    StopServer();
    {
      auto store = store::OpenRocksDbJobStore(
          {.database_path = options_.data_dir + "/db", .commits_path = options_.data_dir + "/commits"});
      ASSERT_TRUE(store.ok()) << store.status();
      std::vector<scheduler::Mutation> batch;
      for (int64_t row = 1; row <= rows; ++row) {
        batch.push_back(scheduler::AppendMetrics{.job = std::string(absl::StripPrefix(job_, "jobs/")),
                                                 .attempt = 1,
                                                 .sequence = static_cast<uint64_t>(row),
                                                 .images_seen = row * kBatch,
                                                 .step = row,
                                                 .time = absl::FromUnixSeconds(1'790'000'000 + row),
                                                 .values = values(row),
                                                 .received = received});
        if (batch.size() < 20'000 && row < rows) continue;
        ASSERT_TRUE((*store)->Apply(batch).ok());
        batch.clear();
      }
    }
    StartServer();
  }
  QueryMetricsResponse Query(QueryMetricsRequest request) {
    request.set_job(job_);
    const auto stub = p2::v1::MetricService::NewStub(channel_);
    const auto response = Call(*stub, &p2::v1::MetricService::Stub::QueryMetrics, request);
    EXPECT_TRUE(response.ok()) << response.status();
    if (!response.ok()) return {};
    EXPECT_LT(response->ByteSizeLong(), kGrpcLimit);
    return *response;
  }

  // The first `rows` messages of StreamMetrics.
  std::vector<p2::v1::StreamMetricsResponse> Stream(size_t rows) {
    const auto stub = p2::v1::MetricService::NewStub(channel_);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    p2::v1::StreamMetricsRequest request;
    request.set_job(job_);
    const auto reader = stub->StreamMetrics(&context, request);
    std::vector<p2::v1::StreamMetricsResponse> messages(rows);
    for (p2::v1::StreamMetricsResponse& message : messages) EXPECT_TRUE(reader->Read(&message));
    context.TryCancel();
    reader->Finish();
    return messages;
  }

  std::string job_;
};

TEST_F(MetricServiceTest, AMillionRowsFitIntoOneAnswerAndNoSpikeIsLost) {
  constexpr int64_t kRows = 1'000'000;
  Store(kRows, [](int64_t row) {
    std::map<std::string, double> values = {{"loss", row == 654'321 ? 1e6 : 1.0}};
    if (row % 2 == 0) values["grad_norm"] = row == 123'456 ? -7 : 2.0;
    return values;
  });
  const QueryMetricsResponse all = Query({});
  ASSERT_THAT(all.series(), SizeIs(2));
  const auto &norm = all.series(0), &loss = all.series(1);
  ASSERT_EQ(loss.metric(), "loss");
  EXPECT_GT(loss.points_size(), 5'000);
  int64_t rows = 0;
  double highest = 0;
  for (const auto& point : loss.points()) {
    rows += std::max(1, point.count());
    highest = std::max(highest, point.max());
  }
  EXPECT_EQ(rows, kRows);
  EXPECT_EQ(highest, 1e6);
  EXPECT_EQ(loss.points().rbegin()->images_seen(), kRows * kBatch);
  double lowest = 0;
  ASSERT_EQ(norm.points_size(), loss.points_size());
  for (int i = 0; i < norm.points_size(); ++i) {
    ASSERT_EQ(norm.points(i).images_seen(), loss.points(i).images_seen()) << "rows do not line up";
    lowest = std::min(lowest, norm.points(i).min());
  }
  EXPECT_EQ(lowest, -7);

  // A part of it is there point by point.
  QueryMetricsRequest part;
  part.add_metrics("loss");
  part.set_from_images(1000 * kBatch);
  part.set_to_images(1999 * kBatch);
  const QueryMetricsResponse thousand = Query(part);
  ASSERT_THAT(thousand.series(), SizeIs(1));
  ASSERT_THAT(thousand.series(0).points(), SizeIs(1000));
  EXPECT_EQ(thousand.series(0).points(0).count(), 0) << "not thinned";
}

TEST_F(MetricServiceTest, ManySeriesAreThinnedAlike) {
  Store(3'000, [](int64_t row) {
    std::map<std::string, double> values;
    for (int i = 0; i < 80; ++i) values[absl::StrFormat("series_%02d", i)] = static_cast<double>(row);
    return values;
  });
  QueryMetricsRequest request;
  request.set_max_points(100'000);
  const QueryMetricsResponse all = Query(request);
  ASSERT_THAT(all.series(), SizeIs(80));
  std::set<int> lengths;
  for (const auto& series : all.series()) lengths.insert(series.points_size());
  ASSERT_THAT(lengths, SizeIs(1));
  EXPECT_GT(*lengths.begin(), 300);
  EXPECT_LT(*lengths.begin(), 3'000);
  request.set_max_points(50);
  EXPECT_THAT(Query(request).series(79).points(), SizeIs(50));
}

TEST_F(MetricServiceTest, OldRowsAreKeptThinnedAndAnswerAsBefore) {
  constexpr int64_t kRows = 3 * 128 + 100;
  std::mt19937 random(7);
  options_.metrics_raw_for = absl::ZeroDuration();
  Store(
      kRows,
      [&random](int64_t row) {
        std::map<std::string, double> values = {{"loss", std::exponential_distribution<>(1)(random)}};
        if (row % 5 == 0) values["grad_norm"] = std::normal_distribution<>(0, 3)(random);
        return values;
      },
      absl::Now() - absl::Hours(2));
  const auto whole = [this] {
    QueryMetricsRequest request;
    request.set_max_points(1);
    return Query(request);
  };
  const QueryMetricsResponse before = whole();
  ASSERT_EQ(Query({}).series(1).points_size(), kRows) << "0 keeps them for ever";

  StopServer();
  options_.metrics_raw_for = absl::Hours(1);
  StartServer();
  constexpr int kLeft = 3 * 8 + 100;  // The last chunk is not full.
  QueryMetricsResponse all = Query({});
  while (all.series(1).points_size() > kLeft) all = Query({});
  ASSERT_EQ(all.series(1).points_size(), kLeft);
  const auto& point = all.series(1).points(1);
  EXPECT_EQ(point.count(), 16);
  EXPECT_EQ(point.images_seen(), 32 * kBatch);
  EXPECT_LT(point.min(), point.value());
  EXPECT_LT(point.value(), point.max());
  EXPECT_EQ(all.series(1).points(kLeft - 1).count(), 0);
  const QueryMetricsResponse after = whole();
  ASSERT_EQ(after.series_size(), 2);
  for (int i = 0; i < 2; ++i) {
    const auto &was = before.series(i).points(0), &is = after.series(i).points(0);
    EXPECT_EQ(is.count(), was.count());
    EXPECT_EQ(is.min(), was.min());
    EXPECT_EQ(is.max(), was.max());
    EXPECT_NEAR(is.value(), was.value(), 1e-12);
    EXPECT_EQ(is.images_seen(), was.images_seen());
  }
  const auto stream = Stream(kLeft);
  EXPECT_EQ(stream[1].values().at("loss"), point.value());
  EXPECT_EQ(stream[1].images_seen(), 32 * kBatch);
  EXPECT_EQ(stream.back().images_seen(), kRows * kBatch);
}

}  // namespace
}  // namespace p2::server
