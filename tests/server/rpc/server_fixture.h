// A real p2d in this process, reached through a real gRPC channel, and a worker of a few lines.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/rpc/grpc_status.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "p2/v1/cluster_service.grpc.pb.h"
#include "p2/v1/dataset_service.grpc.pb.h"
#include "p2/v1/job_service.grpc.pb.h"
#include "p2/v1/worker_service.grpc.pb.h"
#include "server/server.h"
#include "tests/server/store/temp_directory.h"

namespace p2::server {

// A spec of the smallest U-Net, on dataset `tiny`.
inline constexpr char kTinySpec[] = R"(name: tiny
data: {dataset: tiny}
model: {image_size: 16, in_channels: 1, model_channels: 32, channel_mult: [1, 2], attention_resolutions: []}
training: {images: 1000, batch: 8}
)";

// Connects, says Hello, and hands every message of p2d to `on_message` on its own thread.
class FakeWorker {
 public:
  using Stream = grpc::ClientReaderWriter<p2::v1::ConnectRequest, p2::v1::ConnectResponse>;
  using OnMessage = std::function<void(FakeWorker&, const p2::v1::ConnectResponse&)>;

  static p2::v1::Hello Hello(const std::string& name, const std::string& instance) {
    p2::v1::Hello hello;
    hello.set_worker(name);
    hello.set_instance(instance);
    hello.set_protocol_version(1);
    hello.set_version("test");
    hello.set_host("localhost");
    hello.set_data_address("127.0.0.1");
    hello.set_spool_id("spool-" + instance);
    for (int i = 0; i < 2; ++i) {
      p2::v1::Slot* slot = hello.add_slots();
      slot->set_id(absl::StrCat("cpu:", i));
      slot->set_kind("cpu");
      slot->set_threads(1);
    }
    p2::v1::StorageRoot* root = hello.add_roots();
    root->set_name("data");
    root->set_id("root-uuid");
    root->set_path("/data");
    root->set_free_bytes(1);
    root->set_total_bytes(2);
    return hello;
  }

  FakeWorker(std::shared_ptr<grpc::Channel> channel, const p2::v1::ConnectRequest& first,
             OnMessage on_message = nullptr)
      : stub_(p2::v1::WorkerService::NewStub(channel)), stream_(stub_->Connect(&context_)) {
    stream_->Write(first);
    p2::v1::ConnectResponse message;
    welcomed_ = stream_->Read(&message) && message.has_welcome();
    if (!welcomed_) return;
    reader_ = std::thread([this, on_message = std::move(on_message)] {
      p2::v1::ConnectResponse message;
      while (stream_->Read(&message)) {
        if (on_message != nullptr) on_message(*this, message);
      }
    });
  }
  ~FakeWorker() { Close().IgnoreError(); }

  bool welcomed() const { return welcomed_; }
  void Send(const p2::v1::ConnectRequest& message) {
    absl::MutexLock lock(&mutex_);
    stream_->Write(message);
  }
  // Spools `record` under the next sequence.
  void Spool(p2::v1::SpoolRecord record) {
    p2::v1::ConnectRequest message;
    record.set_sequence(++sequence_);
    *message.mutable_spool() = std::move(record);
    Send(message);
  }
  // Ends the stream and returns its status.
  absl::Status Close() {
    if (closed_) return absl::OkStatus();
    closed_ = true;
    if (welcomed_) stream_->WritesDone();
    if (reader_.joinable()) reader_.join();
    return FromGrpcStatus(stream_->Finish());
  }

 private:
  grpc::ClientContext context_;
  const std::unique_ptr<p2::v1::WorkerService::Stub> stub_;
  const std::unique_ptr<Stream> stream_;
  bool welcomed_ = false, closed_ = false;
  std::thread reader_;
  absl::Mutex mutex_;
  uint64_t sequence_ = 0;  // Of the reader thread.
};

class ServerFixture : public ::testing::Test {
 protected:
  ServerFixture() {
    options_.data_dir = directory_.path() + "/data";
    options_.listen = options_.http = "127.0.0.1:0";
    options_.shutdown_grace = absl::Milliseconds(200);
    options_.tick_interval = absl::Milliseconds(20);
    options_.disk_interval = absl::Milliseconds(20);
    StartServer();
  }
  ~ServerFixture() override { StopServer(); }

  void StartServer() {
    auto server = Server::Start(
        options_,
        {.disk_space =
             [this](const std::string&) { return store::DiskSpace{.free_bytes = free_bytes_, .total_bytes = 1000}; },
         .fatal = [](const absl::Status& status) { FAIL() << status; }});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    channel_ = grpc::CreateChannel(server_->grpc_address(), grpc::InsecureChannelCredentials());
    jobs_ = p2::v1::JobService::NewStub(channel_);
  }
  void StopServer() { server_.reset(); }

  // Runs a unary method with a deadline.
  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(Stub& stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    context.AddMetadata("p2-user", "tester");
    Response response;
    absl::Status status = FromGrpcStatus((stub.*method)(&context, request, &response));
    if (!status.ok()) return status;
    return response;
  }

  // The reason that a client sees; "none" without one.
  static std::string ReasonSeen(const absl::Status& status) {
    const auto info = GetDetail<google::rpc::ErrorInfo>(status);
    return info.has_value() && info->domain() == "p2" ? info->reason() : "none";
  }

  p2::v1::ConnectRequest HelloMessage(const std::string& name = "w0", const std::string& instance = "i0") {
    p2::v1::ConnectRequest message;
    *message.mutable_hello() = FakeWorker::Hello(name, instance);
    return message;
  }
  absl::StatusOr<p2::v1::Dataset> RegisterTiny(const std::string& name = "tiny", int resolution = 16,
                                               int64_t images = 100) {
    const auto stub = p2::v1::DatasetService::NewStub(channel_);
    p2::v1::RegisterDatasetRequest request;
    p2::v1::Dataset& dataset = *request.mutable_dataset();
    dataset.set_name("datasets/" + name);
    dataset.set_root("data");
    dataset.set_root_id("root-uuid");
    dataset.set_path(name);
    dataset.set_resolution(resolution);
    dataset.set_channels(1);
    dataset.set_image_count(images);
    dataset.set_fingerprint(std::string(64, 'a'));
    return Call(*stub, &p2::v1::DatasetService::Stub::RegisterDataset, request);
  }
  // A worker that sees the root, and the dataset.
  std::unique_ptr<FakeWorker> Prepare(FakeWorker::OnMessage on_message = nullptr) {
    auto worker = std::make_unique<FakeWorker>(channel_, HelloMessage(), std::move(on_message));
    EXPECT_TRUE(worker->welcomed());
    EXPECT_TRUE(RegisterTiny().ok());
    return worker;
  }
  static p2::v1::CreateJobRequest TinyRequest(bool paused = true) {
    p2::v1::CreateJobRequest request;
    request.set_spec_yaml(kTinySpec);
    request.set_spec_file_name("tiny.yaml");
    request.set_owner("ann");
    request.set_paused(paused);
    return request;
  }
  absl::StatusOr<p2::v1::CreateJobResponse> Create(const p2::v1::CreateJobRequest& request) {
    return Call(*jobs_, &p2::v1::JobService::Stub::CreateJob, request);
  }
  absl::StatusOr<p2::v1::Job> Get(const std::string& name) {
    p2::v1::GetJobRequest request;
    request.set_name(name);
    return Call(*jobs_, &p2::v1::JobService::Stub::GetJob, request);
  }

  store::TempDirectory directory_;
  std::atomic<int64_t> free_bytes_ = 900;
  ServerOptions options_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<p2::v1::JobService::Stub> jobs_;
};

}  // namespace p2::server
