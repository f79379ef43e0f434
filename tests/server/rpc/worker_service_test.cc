#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/rpc/server_fixture.h"

namespace p2::server {
namespace {

using p2::v1::ClusterService;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class WorkerServiceTest : public ServerFixture {
 protected:
  absl::StatusOr<p2::v1::ListWorkersResponse> Workers() {
    const auto stub = ClusterService::NewStub(channel_);
    return Call(*stub, &ClusterService::Stub::ListWorkers, p2::v1::ListWorkersRequest());
  }
};

TEST_F(WorkerServiceTest, ShowsAWorkerThatSaidHello) {
  FakeWorker worker(channel_, HelloMessage());
  ASSERT_TRUE(worker.welcomed());
  const auto workers = Workers();
  ASSERT_THAT(workers->workers(), SizeIs(1));
  EXPECT_EQ(workers->workers(0).name(), "workers/w0");
  EXPECT_EQ(workers->workers(0).state(), p2::v1::Worker::READY);
  EXPECT_THAT(workers->workers(0).slots(), SizeIs(2));
  const auto stub = ClusterService::NewStub(channel_);
  const auto roots = Call(*stub, &ClusterService::Stub::ListRoots, p2::v1::ListRootsRequest());
  ASSERT_THAT(roots->roots(), SizeIs(1));
  EXPECT_EQ(roots->roots(0).workers(0), "workers/w0");
}

TEST_F(WorkerServiceTest, RefusesAStreamThatDoesNotBeginWithHello) {
  p2::v1::ConnectRequest message;
  message.mutable_heartbeat();
  FakeWorker worker(channel_, message);
  const absl::Status status = worker.Close();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), HasSubstr("Hello"));
}

TEST_F(WorkerServiceTest, RefusesAProtocolVersionThatItDoesNotSpeak) {
  p2::v1::ConnectRequest message = HelloMessage();
  message.mutable_hello()->set_protocol_version(99);
  FakeWorker worker(channel_, message);
  const absl::Status status = worker.Close();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("w0"), HasSubstr("99")));
  EXPECT_EQ(ReasonSeen(status), "PROTOCOL_UNSUPPORTED");
}

TEST_F(WorkerServiceTest, RefusesASecondWorkerOfTheSameName) {
  FakeWorker first(channel_, HelloMessage("w0", "i0"));
  FakeWorker second(channel_, HelloMessage("w0", "i1"));
  EXPECT_FALSE(second.welcomed());
  EXPECT_EQ(ReasonSeen(second.Close()), "WORKER_NAME_TAKEN");
  FakeWorker other(channel_, HelloMessage("w1", "i1"));
  EXPECT_TRUE(other.welcomed());
}

TEST_F(WorkerServiceTest, CordonsDrainsAndUncordons) {
  FakeWorker worker(channel_, HelloMessage());
  const auto stub = ClusterService::NewStub(channel_);
  p2::v1::CordonWorkerRequest cordon;
  cordon.set_name("workers/w0");
  cordon.set_reason("repair");
  EXPECT_TRUE(Call(*stub, &ClusterService::Stub::CordonWorker, cordon)->cordoned());
  EXPECT_THAT(Workers()->workers(0).cordon_reason(), HasSubstr("repair"));
  p2::v1::DrainWorkerRequest drain;
  drain.set_name("workers/w0");
  EXPECT_TRUE(Call(*stub, &ClusterService::Stub::DrainWorker, drain)->draining());
  p2::v1::UncordonWorkerRequest uncordon;
  uncordon.set_name("workers/w0");
  EXPECT_FALSE(Call(*stub, &ClusterService::Stub::UncordonWorker, uncordon)->cordoned());
  uncordon.set_name("workers/none");
  EXPECT_EQ(Call(*stub, &ClusterService::Stub::UncordonWorker, uncordon).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace p2::server
