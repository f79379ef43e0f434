// Followed logs and metrics of a job that runs, which its worker reports bit by bit.
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "p2/v1/log_service.grpc.pb.h"
#include "p2/v1/metric_service.grpc.pb.h"
#include "tests/server/rpc/server_fixture.h"

namespace p2::server {
namespace {

using p2::v1::ReadLogsResponse;
using p2::v1::StreamMetricsResponse;
using ::testing::ElementsAre;

class FollowTest : public ServerFixture {
 protected:
  FollowTest() {
    StopServer();
    options_.shutdown_grace = absl::Seconds(20);  // Else gRPC may be faster than what the streams are told.
    StartServer();
    log_stub_ = p2::v1::LogService::NewStub(channel_);
    metric_stub_ = p2::v1::MetricService::NewStub(channel_);
    worker_ = Prepare([this](FakeWorker& worker, const p2::v1::ConnectResponse& message) { Take(worker, message); });
    name_ = Create(TinyRequest(/*paused=*/false))->job().name();
    started_.WaitForNotification();
    p2::v1::SpoolRecord record = record_;
    record.mutable_started();
    worker_->Spool(record);
    for (grpc::ClientContext* context : {&log_context_, &metric_context_})
      context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    p2::v1::ReadLogsRequest logs;
    logs.set_job(name_);
    logs.set_follow(true);
    logs_ = log_stub_->ReadLogs(&log_context_, logs);
    p2::v1::StreamMetricsRequest metrics;
    metrics.set_job(name_);
    metrics_ = metric_stub_->StreamMetrics(&metric_context_, metrics);
  }
  ~FollowTest() override {
    worker_.reset();
    StopServer();
  }

  void Take(FakeWorker& worker, const p2::v1::ConnectResponse& message) {
    if (message.has_prepare()) {
      record_.set_job(message.prepare().job());
      record_.set_epoch(message.prepare().epoch());
      record_.set_attempt(message.prepare().attempt());
      p2::v1::ConnectRequest reply;
      reply.mutable_prepare_reply()->set_job(record_.job());
      reply.mutable_prepare_reply()->set_epoch(record_.epoch());
      reply.mutable_prepare_reply()->set_ok(true);
      reply.mutable_prepare_reply()->set_master_address("127.0.0.1");
      reply.mutable_prepare_reply()->set_master_port(4000);
      worker.Send(reply);
    } else if (message.has_start()) {
      started_.Notify();
    }
  }
  void Writes(const std::string& text) {
    p2::v1::SpoolRecord record = record_;
    record.mutable_log()->set_offset(written_);
    record.mutable_log()->set_data(text);
    written_ += static_cast<int64_t>(text.size());
    worker_->Spool(record);
  }
  void Reports(int64_t images) {
    p2::v1::SpoolRecord record = record_;
    record.mutable_trainer_event()->set_sequence(static_cast<uint64_t>(images));
    auto& points = *record.mutable_trainer_event()->mutable_metrics();
    points.set_images_seen(images);
    (*points.mutable_values())["loss"] = 1;
    worker_->Spool(record);
  }
  std::vector<std::string> NextLines() {
    ReadLogsResponse message;
    EXPECT_TRUE(logs_->Read(&message));
    std::vector<std::string> lines;
    for (const p2::v1::LogEntry& entry : message.entries()) lines.push_back(entry.line());
    return lines;
  }
  int64_t NextImages() {
    StreamMetricsResponse message;
    EXPECT_TRUE(metrics_->Read(&message));
    return message.images_seen();
  }

  p2::v1::SpoolRecord record_;  // What every one of the attempt says.
  int64_t written_ = 0;         // Bytes of the log.
  absl::Notification started_;
  std::unique_ptr<FakeWorker> worker_;
  std::string name_;
  std::unique_ptr<p2::v1::LogService::Stub> log_stub_;
  std::unique_ptr<p2::v1::MetricService::Stub> metric_stub_;
  grpc::ClientContext log_context_, metric_context_;
  std::unique_ptr<grpc::ClientReader<ReadLogsResponse>> logs_;
  std::unique_ptr<grpc::ClientReader<StreamMetricsResponse>> metrics_;
};

TEST_F(FollowTest, LinesAndRowsComeWhileTheJobRunsAndTheStreamsEndWithIt) {
  Writes("one\n");
  EXPECT_THAT(NextLines(), ElementsAre("one"));
  Reports(8);
  EXPECT_EQ(NextImages(), 8);
  Writes("two\nthree\nhal");
  EXPECT_THAT(NextLines(), ElementsAre("two", "three"));
  Reports(16);
  EXPECT_EQ(NextImages(), 16);
  Writes("f a line\nand no end");
  EXPECT_THAT(NextLines(), ElementsAre("half a line"));

  p2::v1::KillJobRequest kill;
  kill.set_name(name_);
  ASSERT_TRUE(Call(*jobs_, &p2::v1::JobService::Stub::KillJob, kill).ok());
  p2::v1::SpoolRecord ended = record_;
  ended.mutable_ended()->add_ranks();
  worker_->Spool(ended);
  EXPECT_THAT(NextLines(), ElementsAre("and no end"));
  ReadLogsResponse lines;
  EXPECT_FALSE(logs_->Read(&lines));
  EXPECT_TRUE(logs_->Finish().ok());
  StreamMetricsResponse row;
  EXPECT_FALSE(metrics_->Read(&row));
  EXPECT_TRUE(metrics_->Finish().ok());
}

TEST_F(FollowTest, LongLogsComeInSeveralMessagesWithoutALoss) {
  std::vector<std::string> expected, got;
  for (int part = 0; part < 10; ++part) {
    std::string text;
    for (int i = 0; i < 2'000; ++i) {
      expected.push_back(absl::StrCat("line ", part * 2'000 + i, std::string(static_cast<size_t>(i % 50), '.')));
      absl::StrAppend(&text, expected.back(), "\n");
    }
    Writes(text);
  }
  int messages = 0;
  for (; got.size() < expected.size(); ++messages) {
    const std::vector<std::string> lines = NextLines();
    ASSERT_FALSE(lines.empty());
    got.insert(got.end(), lines.begin(), lines.end());
  }
  EXPECT_EQ(got, expected);
  EXPECT_GT(messages, 5);
}

TEST_F(FollowTest, FollowersHearThatP2dStops) {
  Writes("one\n");
  EXPECT_THAT(NextLines(), ElementsAre("one"));
  Reports(8);
  EXPECT_EQ(NextImages(), 8);
  server_->Stop();
  for (const absl::Status& end : {FromGrpcStatus(logs_->Finish()), FromGrpcStatus(metrics_->Finish())}) {
    EXPECT_EQ(end.code(), absl::StatusCode::kUnavailable) << end;
    EXPECT_EQ(ReasonSeen(end), "SHUTTING_DOWN");
  }
}

}  // namespace
}  // namespace p2::server
