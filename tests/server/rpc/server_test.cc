#include "server/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "p2/v1/event_service.grpc.pb.h"
#include "p2/v1/preset_service.grpc.pb.h"
#include "tests/server/rpc/server_fixture.h"

namespace p2::server {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class ServerTest : public ServerFixture {
 protected:
  std::string HttpGet(const std::string& path) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(std::stoi(server_->http_address().substr(10))));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    std::string reply;
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
      const std::string request = "GET " + path + " HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
      EXPECT_GT(send(fd, request.data(), request.size(), MSG_NOSIGNAL), 0);
      char buffer[4096];
      for (ssize_t n; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;) reply.append(buffer, static_cast<size_t>(n));
    }
    close(fd);
    return reply;
  }
};

TEST_F(ServerTest, IsAliveReadyAndMeasured) {
  const auto worker = Prepare();
  ASSERT_TRUE(Create(TinyRequest()).ok());
  EXPECT_THAT(HttpGet("/livez"), StartsWith("HTTP/1.1 200"));
  EXPECT_THAT(HttpGet("/readyz"), StartsWith("HTTP/1.1 200"));
  const std::string metrics = HttpGet("/metrics");
  EXPECT_THAT(metrics,
              AllOf(HasSubstr("p2_jobs{state=\"PAUSED\",queue=\"default\"} 1"),
                    HasSubstr("p2_nodes{state=\"ready\"} 1"), HasSubstr("p2_admissions_total 1"),
                    HasSubstr("p2_store_write_seconds_count"), HasSubstr("p2_build_info{version=\"0.1.0\"} 1")));
  EXPECT_THAT(metrics, HasSubstr("grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"CreateJob\","
                                 "grpc_service=\"p2.v1.JobService\"} 1"));
}

TEST_F(ServerTest, RefusesADataDirectoryInUse) {
  ServerOptions options = options_;
  const auto second = Server::Start(options, {});
  EXPECT_THAT(second.status().message(), AllOf(HasSubstr("in use"), HasSubstr("--data-dir")));
}

TEST_F(ServerTest, RefusesAPortInUse) {
  ServerOptions options = options_;
  options.data_dir = directory_.path() + "/other";
  options.listen = server_->grpc_address();
  EXPECT_THAT(Server::Start(options, {}).status().message(), AllOf(HasSubstr(options.listen), HasSubstr("in use")));
  options.listen = "127.0.0.1:0";
  options.http = server_->http_address();
  EXPECT_THAT(Server::Start(options, {}).status().message(), AllOf(HasSubstr(options.http), HasSubstr("in use")));
}

TEST_F(ServerTest, WritesItsAddressesWhenReady) {
  StopServer();
  options_.ready_file = directory_.path() + "/ready.json";
  StartServer();
  EXPECT_THAT(store::ReadWhole(options_.ready_file), AllOf(HasSubstr("\"grpc\":\"" + server_->grpc_address() + "\""),
                                                           HasSubstr("\"http\":\"" + server_->http_address() + "\"")));
  EXPECT_THAT(server_->grpc_address(), Not(HasSubstr(":0")));
}

TEST_F(ServerTest, EndsWatchesWithUnavailableWhenItStops) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const auto reader = jobs_->WatchJobs(&context, p2::v1::WatchJobsRequest());
  p2::v1::WatchJobsResponse message;
  ASSERT_TRUE(reader->Read(&message));
  server_->Stop();
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ServerTest, ShowsItsPresets) {
  const auto stub = p2::v1::PresetService::NewStub(channel_);
  const auto list = Call(*stub, &p2::v1::PresetService::Stub::ListPresets, p2::v1::ListPresetsRequest());
  ASSERT_TRUE(list.ok()) << list.status();
  ASSERT_GT(list->presets_size(), 0);
  p2::v1::ResolvePresetRequest request;
  request.set_name(list->presets(0).name());
  request.add_overrides("training.batch=16");
  const auto resolved = Call(*stub, &p2::v1::PresetService::Stub::ResolvePreset, request);
  ASSERT_TRUE(resolved.ok()) << resolved.status();
  EXPECT_EQ(resolved->spec().training().batch(), 16);
  p2::v1::GetPresetRequest unknown;
  unknown.set_name(list->presets(0).name() + "x");
  EXPECT_THAT(Call(*stub, &p2::v1::PresetService::Stub::GetPreset, unknown).status().message(),
              HasSubstr(list->presets(0).name().substr(8)));
}

TEST_F(ServerTest, FollowsEventsFromTheFirstOne) {
  const auto worker = Prepare();
  const std::string name = Create(TinyRequest())->job().name();
  const auto stub = p2::v1::EventService::NewStub(channel_);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  p2::v1::FollowEventsRequest request;
  request.set_resource(name);
  request.set_start_revision(1);
  const auto reader = stub->FollowEvents(&context, request);
  p2::v1::FollowEventsResponse message;
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.event().reason(), "JOB_CREATED");
  EXPECT_EQ(message.event().actor(), "user:ann");
  p2::v1::KillJobRequest kill;
  kill.set_name(name);
  ASSERT_TRUE(Call(*jobs_, &p2::v1::JobService::Stub::KillJob, kill).ok());
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.event().actor(), "user:tester");
  context.TryCancel();
}

}  // namespace
}  // namespace p2::server
