// A job from submit to SUCCEEDED through every service, with a worker that plays its gang.
#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "common/sha256.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "p2/v1/artifact_service.grpc.pb.h"
#include "p2/v1/checkpoint_service.grpc.pb.h"
#include "p2/v1/log_service.grpc.pb.h"
#include "p2/v1/metric_service.grpc.pb.h"
#include "tests/server/rpc/server_fixture.h"

namespace p2::server {
namespace {

using p2::v1::Job;
using ::testing::ElementsAre;
using ::testing::SizeIs;

constexpr int kPoints = 40;

// Runs the whole attempt at once when it is started.
class Gang {
 public:
  void operator()(FakeWorker& worker, const p2::v1::ConnectResponse& message) {
    if (message.has_prepare()) {
      p2::v1::ConnectRequest reply;
      reply.mutable_prepare_reply()->set_job(message.prepare().job());
      reply.mutable_prepare_reply()->set_epoch(message.prepare().epoch());
      reply.mutable_prepare_reply()->set_ok(true);
      reply.mutable_prepare_reply()->set_master_address("127.0.0.1");
      reply.mutable_prepare_reply()->set_master_port(4000);
      attempt_ = message.prepare().attempt();
      worker.Send(reply);
    } else if (message.has_start()) {
      Run(worker, message.start());
    }
  }

 private:
  p2::v1::SpoolRecord Record(const p2::v1::Start& start) const {
    p2::v1::SpoolRecord record;
    record.set_job(start.job());
    record.set_epoch(start.epoch());
    record.set_attempt(attempt_);
    return record;
  }
  p2::trainer::v1::TrainerEvent& Event(p2::v1::SpoolRecord& record) {
    record.mutable_trainer_event()->set_sequence(++sequence_);
    record.mutable_trainer_event()->set_wall_time_ns(1'790'000'000'000'000'000);
    return *record.mutable_trainer_event();
  }

  void Run(FakeWorker& worker, const p2::v1::Start& start) {
    p2::v1::SpoolRecord record = Record(start);
    record.mutable_started();
    worker.Spool(record);
    record = Record(start);
    Event(record).mutable_started()->set_parameters(7);
    worker.Spool(record);
    for (int i = 1; i <= kPoints; ++i) {
      record = Record(start);
      p2::trainer::v1::MetricPoints& points = *Event(record).mutable_metrics();
      points.set_images_seen(i * 8);
      points.set_step(i);
      (*points.mutable_values())["loss"] = i == 17 ? 100.0 : 1.0;
      (*points.mutable_values())["mse"] = 0.5;
      worker.Spool(record);
    }
    record = Record(start);
    record.mutable_log()->set_data("first line\nsecond \xff line\nthird line\n");
    worker.Spool(record);
    for (int64_t offset = 0; offset < 300'000; offset += 200'000) {
      record = Record(start);
      p2::v1::ArtifactChunk& chunk = *record.mutable_artifact();
      chunk.set_file_name("samples-000000320.png");
      chunk.set_kind("samples");
      chunk.set_content_type("image/png");
      chunk.set_size_bytes(300'000);
      chunk.set_sha256(Sha256Hex(std::string(300'000, 'x')));
      chunk.set_offset(offset);
      chunk.set_data(std::string(static_cast<size_t>(std::min<int64_t>(200'000, 300'000 - offset)), 'x'));
      worker.Spool(record);
    }
    record = Record(start);
    p2::trainer::v1::CheckpointSaved& saved = *Event(record).mutable_checkpoint();
    saved.set_images_seen(1000);
    saved.set_path("p2/" + start.job() + "/000000001000-e1");
    saved.set_manifest_sha256(std::string(64, 'b'));
    worker.Spool(record);
    record = Record(start);
    p2::trainer::v1::Finished& finished = *Event(record).mutable_finished();
    finished.set_outcome(p2::trainer::v1::Finished::DONE);
    finished.set_images_seen(1000);
    worker.Spool(record);
    record = Record(start);
    record.mutable_ended()->add_ranks();
    worker.Spool(record);
  }

  int attempt_ = 0;
  uint64_t sequence_ = 0;
};

class JobRunTest : public ServerFixture {
 protected:
  JobRunTest() : worker_(Prepare(Gang())) {}
  ~JobRunTest() override {
    worker_.reset();
    StopServer();
  }

  // Submits and waits for the end by a watch; the states that were seen.
  std::vector<int> Run(std::string& name) {
    const auto created = Create(TinyRequest(/*paused=*/false));
    EXPECT_TRUE(created.ok()) << created.status();
    name = created->job().name();
    p2::v1::WatchJobsRequest request;
    request.add_names(name);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    const auto reader = jobs_->WatchJobs(&context, request);
    std::vector<int> states;
    p2::v1::WatchJobsResponse message;
    while (reader->Read(&message)) {
      if (message.type() != p2::v1::WatchJobsResponse::STATE) continue;
      if (states.empty() || states.back() != message.job().state()) states.push_back(message.job().state());
      if (message.job().state() >= Job::CANCELLED) break;
    }
    context.TryCancel();
    return states;
  }

  std::unique_ptr<FakeWorker> worker_;
};

TEST_F(JobRunTest, SucceedsAndKeepsAllThatItsGangReported) {
  std::string name;
  const std::vector<int> states = Run(name);
  ASSERT_FALSE(states.empty());
  EXPECT_EQ(states.back(), Job::SUCCEEDED);
  const auto job = Get(name);
  EXPECT_THAT(job->attempts(), SizeIs(1));
  EXPECT_EQ(job->latest_checkpoint(), name + "/checkpoints/000000001000-e1");

  const auto metrics = p2::v1::MetricService::NewStub(channel_);
  p2::v1::QueryMetricsRequest query;
  query.set_job(name);
  query.add_metrics("loss");
  query.set_max_points(4);
  const auto result = Call(*metrics, &p2::v1::MetricService::Stub::QueryMetrics, query);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_THAT(result->series(), SizeIs(1));
  ASSERT_THAT(result->series(0).points(), SizeIs(4));
  EXPECT_EQ(result->series(0).points(1).max(), 100.0);
  EXPECT_EQ(result->series(0).points(1).count(), 10);
  query.set_from_images(16);
  query.set_to_images(24);
  query.set_max_points(0);
  EXPECT_THAT(Call(*metrics, &p2::v1::MetricService::Stub::QueryMetrics, query)->series(0).points(), SizeIs(2));

  grpc::ClientContext stream_context;
  p2::v1::StreamMetricsRequest stream_request;
  stream_request.set_job(name);
  const auto stream = metrics->StreamMetrics(&stream_context, stream_request);
  p2::v1::StreamMetricsResponse point;
  std::vector<std::string> cursors;
  while (stream->Read(&point)) cursors.push_back(point.cursor());
  EXPECT_TRUE(stream->Finish().ok());
  ASSERT_THAT(cursors, SizeIs(kPoints));
  stream_request.set_cursor(cursors[29]);
  grpc::ClientContext rest_context;
  const auto rest = metrics->StreamMetrics(&rest_context, stream_request);
  int remaining = 0;
  while (rest->Read(&point)) ++remaining;
  EXPECT_EQ(remaining, kPoints - 30);

  const auto logs = p2::v1::LogService::NewStub(channel_);
  grpc::ClientContext log_context;
  p2::v1::ReadLogsRequest log_request;
  log_request.set_job(name);
  log_request.set_follow(true);
  log_request.set_tail_lines(2);
  const auto log = logs->ReadLogs(&log_context, log_request);
  p2::v1::ReadLogsResponse entries;
  std::vector<std::string> lines;
  while (log->Read(&entries)) {
    for (const p2::v1::LogEntry& entry : entries.entries()) lines.push_back(entry.line());
  }
  EXPECT_TRUE(log->Finish().ok());
  EXPECT_THAT(lines, ElementsAre("second ? line", "third line"));
  grpc::ClientContext no_rank_context;
  log_request.set_rank(9);
  const absl::Status no_rank = FromGrpcStatus(logs->ReadLogs(&no_rank_context, log_request)->Finish());
  EXPECT_TRUE(absl::IsInvalidArgument(no_rank)) << no_rank;
  EXPECT_THAT(std::string(no_rank.message()), testing::HasSubstr("rank: is 9, but the job has the ranks 0 to "));

  const auto artifacts = p2::v1::ArtifactService::NewStub(channel_);
  p2::v1::ListArtifactsRequest list;
  list.set_parent(name);
  const auto listed = Call(*artifacts, &p2::v1::ArtifactService::Stub::ListArtifacts, list);
  ASSERT_THAT(listed->artifacts(), SizeIs(1));
  grpc::ClientContext artifact_context;
  p2::v1::GetArtifactRequest get;
  get.set_name(listed->artifacts(0).name());
  const auto chunks = artifacts->GetArtifact(&artifact_context, get);
  p2::v1::GetArtifactResponse chunk;
  std::string bytes;
  while (chunks->Read(&chunk)) {
    EXPECT_EQ(chunk.has_artifact(), bytes.empty());
    bytes += chunk.data();
  }
  EXPECT_TRUE(chunks->Finish().ok());
  EXPECT_EQ(bytes, std::string(300'000, 'x'));

  const auto checkpoints = p2::v1::CheckpointService::NewStub(channel_);
  p2::v1::GetCheckpointRequest checkpoint;
  checkpoint.set_name(job->latest_checkpoint());
  EXPECT_EQ(Call(*checkpoints, &p2::v1::CheckpointService::Stub::GetCheckpoint, checkpoint)->state(),
            p2::v1::Checkpoint::COMMITTED);
}

}  // namespace
}  // namespace p2::server
