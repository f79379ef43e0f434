#include "p2/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "google/rpc/error_details.pb.h"
#include "tests/client/fake_server.h"

namespace p2 {
namespace {

using ::testing::ElementsAre;
using testing::FakeServer;
using testing::FakeState;
using ::testing::HasSubstr;
using testing::MakeJob;
using ::testing::SizeIs;

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() : client_(*Client::Connect(Options())) {}

  ClientOptions Options() const {
    return {.address = server_.address(),
            .timeout = absl::Seconds(10),
            .initial_backoff = absl::Milliseconds(5),
            .max_backoff = absl::Milliseconds(50),
            .reconnect_for = absl::Seconds(10)};
  }
  absl::StatusOr<v1::Job> GetJob(const std::string& id) {
    v1::GetJobRequest request;
    request.set_name(absl::StrCat("jobs/", id));
    return client_->GetJob(request);
  }
  int Calls() {
    int calls = 0;
    server_.With([&](FakeState& s) { calls = s.calls; });
    return calls;
  }

  FakeServer server_;
  std::unique_ptr<Client> client_;
};

std::string Sha256(const std::string& bytes) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<char*>(digest), sizeof(digest)));
}

std::string TempPath(const std::string& name) {
  const std::string directory = absl::StrCat(::testing::TempDir(), "/client_test.", getpid());
  std::filesystem::create_directories(directory);
  return absl::StrCat(directory, "/", name);
}

std::string FileText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(file)), {});
}

TEST_F(ClientTest, TriesAgainWhileTheServerIsUnavailable) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING));
  server_.FailNext(3, absl::UnavailableError("busy"));
  EXPECT_TRUE(GetJob("a").ok());
  EXPECT_EQ(Calls(), 4);
}

TEST_F(ClientTest, GivesUpAfterItsTries) {
  server_.FailNext(100, absl::UnavailableError("busy"));
  EXPECT_EQ(GetJob("a").status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Calls(), 4);
}

TEST_F(ClientTest, DoesNotRepeatAnErrorOfTheRequest) {
  EXPECT_EQ(GetJob("missing").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Calls(), 1);
}

TEST_F(ClientTest, RetriedCreateMakesOneJob) {
  server_.FailNext(2, absl::UnavailableError("the answer is lost"), /*after_doing=*/true);
  v1::CreateJobRequest request;
  request.set_preset("mnist-demo");
  const absl::StatusOr<v1::CreateJobResponse> response = client_->CreateJob(request);
  ASSERT_TRUE(response.ok()) << response.status();
  server_.With([](FakeState& s) {
    EXPECT_THAT(s.jobs, SizeIs(1));
    ASSERT_THAT(s.request_ids, SizeIs(3));
    EXPECT_EQ(s.request_ids[0], s.request_ids[2]);
    EXPECT_THAT(s.last_create.owner(), ::testing::Not(::testing::IsEmpty()));
  });
}

TEST_F(ClientTest, TwoCreatesHaveTwoRequestIds) {
  v1::CreateJobRequest request;
  request.set_preset("mnist-demo");
  ASSERT_TRUE(client_->CreateJob(request).ok());
  ASSERT_TRUE(client_->CreateJob(request).ok());
  server_.With([](FakeState& s) { EXPECT_THAT(s.jobs, SizeIs(2)); });
}

TEST_F(ClientTest, ErrorsCarryTheServersDetails) {
  v1::CreateJobRequest request;
  request.set_preset("bad");
  const absl::Status status = client_->CreateJob(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  const auto payload = status.GetPayload("type.googleapis.com/google.rpc.BadRequest");
  ASSERT_TRUE(payload.has_value());
  google::rpc::BadRequest detail;
  ASSERT_TRUE(detail.ParseFromString(std::string(*payload)));
  EXPECT_EQ(detail.field_violations_size(), 2);
}

TEST_F(ClientTest, RefusesAnAddressWithoutPort) {
  const absl::Status status = Client::Connect({.address = "localhost"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("HOST:PORT"));
}

TEST_F(ClientTest, WatchMissesAndDoublesNothingWhenTheServerRestarts) {
  server_.SetJob(MakeJob("a", v1::Job::QUEUED));
  const auto watch = client_->WatchJobs(v1::WatchJobsRequest());
  std::vector<std::string> seen;
  const auto next = [&] {
    const auto event = watch->Next();
    ASSERT_TRUE(event.ok()) << event.status();
    seen.push_back(v1::Job::State_Name((*event)->job().state()));
  };
  next();
  server_.SetJob(MakeJob("a", v1::Job::STARTING));
  next();
  server_.Stop();
  server_.SetJob(MakeJob("a", v1::Job::RUNNING));
  server_.SetJob(MakeJob("a", v1::Job::SUCCEEDED));
  server_.Start();
  next();
  next();
  EXPECT_THAT(seen, ElementsAre("QUEUED", "STARTING", "RUNNING", "SUCCEEDED"));
}

TEST_F(ClientTest, WatchBeginsAgainWhenItsRevisionIsCompacted) {
  server_.SetJob(MakeJob("a", v1::Job::QUEUED));
  const auto watch = client_->WatchJobs(v1::WatchJobsRequest());
  ASSERT_TRUE(watch->Next().ok());
  server_.Stop();
  server_.SetJob(MakeJob("a", v1::Job::FAILED));
  server_.With([](FakeState& s) { s.compacted_before = 100; });
  server_.Start();
  const auto event = watch->Next();
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_EQ((*event)->job().state(), v1::Job::FAILED);
}

TEST_F(ClientTest, LogsGoOnWithoutDoublingWhenTheServerRestarts) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING));
  const auto add = [this](int rank, int64_t offset, const std::string& line) {
    server_.With([&](FakeState& s) {
      v1::LogEntry& entry = s.logs["jobs/a"].emplace_back();
      entry.set_attempt(1);
      entry.set_rank(rank);
      entry.set_offset(offset);
      entry.set_line(line);
    });
  };
  add(0, 4, "one");
  add(1, 4, "uno");
  v1::ReadLogsRequest request;
  request.set_job("jobs/a");
  request.set_follow(true);
  const auto logs = client_->ReadLogs(request);
  std::vector<std::string> lines;
  const auto read = [&] {
    const auto batch = logs->Next();
    ASSERT_TRUE(batch.ok()) << batch.status();
    for (const v1::LogEntry& entry : (*batch)->entries()) lines.push_back(entry.line());
  };
  read();
  read();
  server_.Stop();
  add(0, 8, "two");
  server_.Start();
  read();
  server_.SetJob(MakeJob("a", v1::Job::SUCCEEDED));
  const auto end = logs->Next();
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_FALSE(end->has_value());
  EXPECT_THAT(lines, ElementsAre("one", "uno", "two"));
}

TEST_F(ClientTest, MetricsGoOnFromTheirCursor) {
  server_.SetJob(MakeJob("a", v1::Job::RUNNING));
  const auto add = [this](int64_t images) {
    server_.With([&](FakeState& s) { s.metrics["jobs/a"].emplace_back().set_images_seen(images); });
  };
  add(32);
  v1::StreamMetricsRequest request;
  request.set_job("jobs/a");
  const auto metrics = client_->StreamMetrics(request);
  ASSERT_EQ((*metrics->Next())->images_seen(), 32);
  server_.Stop();
  add(64);
  server_.Start();
  EXPECT_EQ((*metrics->Next())->images_seen(), 64);
}

TEST_F(ClientTest, StreamGivesUpWhenTheServerStaysAway) {
  ClientOptions options = Options();
  options.reconnect_for = absl::Milliseconds(100);
  const std::unique_ptr<Client> impatient = *Client::Connect(options);
  server_.Stop();
  const auto watch = impatient->WatchJobs(v1::WatchJobsRequest());
  EXPECT_EQ(watch->Next().status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(watch->Next().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ClientTest, CancelEndsAWatchThatWaits) {
  const auto watch = client_->WatchJobs(v1::WatchJobsRequest());
  std::thread canceller([&] { watch->Cancel(); });
  EXPECT_EQ(watch->Next().status().code(), absl::StatusCode::kCancelled);
  canceller.join();
}

class DownloadTest : public ClientTest {
 protected:
  void Offer(const std::string& promised, const std::string& sent) {
    v1::Artifact artifact;
    artifact.set_name("jobs/a/artifacts/grid.png");
    artifact.set_kind("samples");
    artifact.set_size_bytes(static_cast<int64_t>(promised.size()));
    artifact.set_sha256(Sha256(promised));
    server_.With([&](FakeState& s) { s.artifacts[artifact.name()] = {artifact, sent}; });
  }
};

TEST_F(DownloadTest, WritesTheWholeFile) {
  Offer("the picture's bytes", "the picture's bytes");
  const std::string path = TempPath("whole.png");
  const absl::StatusOr<v1::Artifact> artifact = client_->DownloadArtifact("jobs/a/artifacts/grid.png", path);
  ASSERT_TRUE(artifact.ok()) << artifact.status();
  EXPECT_EQ(artifact->kind(), "samples");
  EXPECT_EQ(FileText(path), "the picture's bytes");
}

TEST_F(DownloadTest, KeepsTheOldFileWhenAByteIsWrong) {
  Offer("the picture's bytes", "the picture'S bytes");
  const std::string path = TempPath("damaged.png");
  std::ofstream(path) << "old";
  EXPECT_EQ(client_->DownloadArtifact("jobs/a/artifacts/grid.png", path).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(FileText(path), "old");
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(path).parent_path())) {
    files += entry.path().filename().string().rfind("damaged", 0) == 0 ? 1 : 0;
  }
  EXPECT_EQ(files, 1u);
}

TEST_F(DownloadTest, SaysWhereItCannotWrite) {
  Offer("x", "x");
  const absl::Status status =
      client_->DownloadArtifact("jobs/a/artifacts/grid.png", "/no/such/directory/x.png").status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("/no/such/directory/x.png"));
}

}  // namespace
}  // namespace p2
