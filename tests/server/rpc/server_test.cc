#include "server/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <regex>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "common/error_reason.h"
#include "gmock/gmock.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "grpcpp/generic/generic_stub.h"
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

  // `text` wherever text is asked for, and no revision.
  static std::string WrongRequest(const google::protobuf::Descriptor& type, const std::string& text) {
    using Field = google::protobuf::FieldDescriptor;
    auto* factory = google::protobuf::MessageFactory::generated_factory();
    const std::unique_ptr<google::protobuf::Message> request(factory->GetPrototype(&type)->New());
    const google::protobuf::Reflection& reflection = *request->GetReflection();
    for (int i = 0; i < type.field_count(); ++i) {
      const Field* field = type.field(i);
      if (field->name() == "start_revision") reflection.SetInt64(request.get(), field, -1);
      if (field->type() != Field::TYPE_STRING || text.empty()) continue;
      if (field->is_repeated())
        reflection.AddString(request.get(), field, text);
      else
        reflection.SetString(request.get(), field, text);
    }
    return request->SerializeAsString();
  }

  // A unary call; of a stream's method it shows the end.
  absl::Status CallBytes(const std::string& method, const std::string& bytes) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    grpc::CompletionQueue queue;
    grpc::GenericStub stub(channel_);
    const auto call = stub.PrepareUnaryCall(&context, method, request, &queue);
    call->StartCall();
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return FromGrpcStatus(status);
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
  StopServer();
  options_.shutdown_grace = absl::Seconds(20);  // Else gRPC may be faster than the watch.
  StartServer();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const auto reader = jobs_->WatchJobs(&context, p2::v1::WatchJobsRequest());
  p2::v1::WatchJobsResponse message;
  ASSERT_TRUE(reader->Read(&message));
  server_->Stop();
  while (reader->Read(&message)) {
  }
  const absl::Status end = FromGrpcStatus(reader->Finish());
  EXPECT_EQ(end.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReasonSeen(end), "SHUTTING_DOWN");
}

// Every method of the API is called with requests that cannot be, made from its descriptor.
TEST_F(ServerTest, EveryErrorOfEveryMethodHasAReasonOfTheTable) {
  std::set<std::string> known;
  for (const ErrorReasonRow& row : ErrorReasons()) known.emplace(row.name);
  const google::protobuf::DescriptorPool& pool = *google::protobuf::DescriptorPool::generated_pool();
  std::set<std::string> seen, never_failed;
  for (const char* service_name :
       {"ArtifactService", "CheckpointService", "ClusterService", "DatasetService", "EventService", "JobService",
        "LogService", "MetricService", "PresetService", "WorkerService"}) {
    const auto* service = pool.FindServiceByName(absl::StrCat("p2.v1.", service_name));
    ASSERT_NE(service, nullptr) << service_name;
    for (int i = 0; i < service->method_count(); ++i) {
      const std::string method = absl::StrCat("/", service->full_name(), "/", service->method(i)->name());
      bool failed = false;
      for (const char* text : {"", "\1", "jobs/none", "datasets/none", "workers/none", "presets/none",
                               "jobs/none/checkpoints/none", "jobs/none/artifacts/none"}) {
        const absl::Status status = CallBytes(method, WrongRequest(*service->method(i)->input_type(), text));
        if (status.ok()) continue;
        failed = true;
        seen.insert(ReasonSeen(status));
        EXPECT_EQ(known.count(ReasonSeen(status)), 1u) << method << "(" << text << "): " << status;
      }
      if (!failed) never_failed.insert(method);
    }
  }
  EXPECT_THAT(never_failed, testing::ElementsAre("/p2.v1.ClusterService/GetServerInfo"));
  EXPECT_THAT(seen, testing::IsSupersetOf({"INVALID_REQUEST", "PAGE_TOKEN_INVALID", "JOB_NOT_FOUND",
                                           "DATASET_NOT_FOUND", "WORKER_NOT_FOUND", "PRESET_NOT_FOUND"}));
}

TEST_F(ServerTest, TextThatIsNotUtf8IsToldFromAnErrorWithoutWords) {
  const auto call = [this](const char* name, const google::protobuf::Descriptor& type) {
    return CallBytes(absl::StrCat("/p2.v1.JobService/", name), WrongRequest(type, "\xff"));
  };
  EXPECT_THAT(call("GetJob", *p2::v1::GetJobRequest::descriptor()).message(), HasSubstr("UTF-8"));
  const absl::Status watch = call("WatchJobs", *p2::v1::WatchJobsRequest::descriptor());
  EXPECT_EQ(watch.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(watch.message(), HasSubstr("UTF-8"));
}

TEST_F(ServerTest, CountsACallThatItsClientLeavesAsCancelled) {
  // Headers alone: the request never comes, which gRPC's own handler calls INTERNAL, most often before it knows why.
  grpc::GenericStub stub(channel_);
  for (int i = 0; i < 20; ++i) {
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    const auto call = stub.PrepareCall(&context, "/p2.v1.JobService/WatchJobs", &queue);
    void* tag = nullptr;
    bool ok = false;
    call->StartCall(nullptr);
    ASSERT_TRUE(queue.Next(&tag, &ok));
    context.TryCancel();
    grpc::Status status;
    call->Finish(&status, nullptr);
    ASSERT_TRUE(queue.Next(&tag, &ok));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  }
  // And one that is left in the middle.
  grpc::ClientContext left;
  const auto reader = jobs_->WatchJobs(&left, p2::v1::WatchJobsRequest());
  p2::v1::WatchJobsResponse message;
  ASSERT_TRUE(reader->Read(&message));
  left.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  // gRPC drops a call that ends before it was matched, so that not all of the first twenty need to be counted.
  const std::regex several(
      R"re(grpc_code="CANCELLED",grpc_method="WatchJobs",grpc_service="p2.v1.JobService"} ([2-9]|1\d))re");
  const auto all_ended = [&several](const std::string& metrics) {
    return std::regex_search(metrics, several) && absl::StrContains(metrics, "p2_watchers 0");
  };
  std::string metrics = HttpGet("/metrics");
  for (const absl::Time end = absl::Now() + absl::Seconds(20); !all_ended(metrics) && absl::Now() < end;) {
    metrics = HttpGet("/metrics");
  }
  EXPECT_TRUE(all_ended(metrics)) << metrics;
  EXPECT_THAT(metrics, Not(HasSubstr("grpc_code=\"INTERNAL\"")));
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
