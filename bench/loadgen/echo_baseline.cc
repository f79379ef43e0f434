#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "bench/loadgen/baseline.grpc.pb.h"
#include "bench/loadgen/baselines.h"
#include "bench/loadgen/unary.h"
#include "common/status_macros.h"

namespace p2::loadgen {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(30);

class EchoServer final : public v1::EchoService::CallbackService {
 public:
  grpc::ServerUnaryReactor* Echo(grpc::CallbackServerContext* call, const v1::EchoRequest* request,
                                 v1::EchoResponse* response) override {
    response->set_data(std::string(static_cast<size_t>(request->answer_bytes()), 'a'));
    grpc::ServerUnaryReactor* reactor = call->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

}  // namespace

void ServeEcho(const std::string& ready_file) {
  EchoServer service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  std::ofstream(ready_file + ".part") << "127.0.0.1:" << port;
  std::rename((ready_file + ".part").c_str(), ready_file.c_str());
  server->Wait();
  _exit(0);
}

absl::StatusOr<LoadResult> RunEcho(const BaselineOptions& options) {
  P2_ASSIGN_OR_RETURN(const auto directory, TemporaryDirectory::Make(options.parent_directory));
  const std::string ready = directory->path() + "/ready";
  P2_ASSIGN_OR_RETURN(const auto server, Process::Start({std::filesystem::read_symlink("/proc/self/exe"), "serve-echo",
                                                         "--ready-file", ready},
                                                        directory->path() + "/log", options.cores.server));
  for (const absl::Time begin = absl::Now(); !std::filesystem::exists(ready); absl::SleepFor(absl::Milliseconds(1))) {
    if (!server->Running() || absl::Now() - begin > kStartTimeout)
      return absl::InternalError("the echo server did not start: " + TailOf(directory->path() + "/log"));
  }
  std::string address;
  std::ifstream(ready) >> address;
  P2_ASSIGN_OR_RETURN(const auto stubs, ConnectStubs<v1::EchoService>(address, options.load.clients));
  v1::EchoRequest request;
  request.set_data(std::string(static_cast<size_t>(options.request_bytes), 'q'));
  request.set_answer_bytes(static_cast<int32_t>(options.response_bytes));
  return RunLoad(options.load, [&](int64_t index, Done done) {
    CallAsync<v1::EchoRequest, v1::EchoResponse>(
        [stub = stubs[static_cast<size_t>(index) % stubs.size()]->async()](auto... arguments) {
          stub->Echo(arguments...);
        },
        request, [done = std::move(done)](const absl::Status& status, const v1::EchoResponse&) { done(status); });
  });
}

}  // namespace p2::loadgen
