#include "bench/loadgen/server_under_test.h"

#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "nlohmann/json.hpp"

namespace p2::loadgen {
namespace {

// Replay of a long log included.
constexpr absl::Duration kStartTimeout = absl::Minutes(10);

}  // namespace

absl::StatusOr<std::unique_ptr<ServerUnderTest>> ServerUnderTest::Open(ServerOptions options) {
  std::unique_ptr<ServerUnderTest> server(new ServerUnderTest(std::move(options)));
  if (!server->options_.spawn) return server;
  server->options_.grpc = server->options_.http = "127.0.0.1:0";
  P2_ASSIGN_OR_RETURN(server->directory_, TemporaryDirectory::Make(server->options_.parent_directory));
  P2_RETURN_IF_ERROR(server->Start().status());
  return server;
}

absl::StatusOr<absl::Duration> ServerUnderTest::Start() {
  const std::string ready = directory_->path() + "/p2d.ready", log = directory_->path() + "/p2d.log";
  std::filesystem::remove(ready);
  // No limit for one user: one is all users here.
  std::vector<std::string> argv = {options_.p2d, "--data-dir",  data_directory(), "--listen", options_.grpc,
                                   "--http",     options_.http, "--ready-file",   ready,      "--submit-rate",
                                   "0"};
  argv.insert(argv.end(), options_.flags.begin(), options_.flags.end());
  const absl::Time begin = absl::Now();
  P2_ASSIGN_OR_RETURN(process_, Process::Start(argv, log, options_.core));
  while (!std::filesystem::exists(ready)) {
    if (!process_->Running()) return absl::FailedPreconditionError("p2d ended: " + TailOf(log));
    if (absl::Now() - begin > kStartTimeout) {
      return absl::DeadlineExceededError(
          absl::StrCat("p2d did not serve within ", absl::FormatDuration(kStartTimeout), ": ", TailOf(log)));
    }
    absl::SleepFor(absl::Milliseconds(1));
  }
  const absl::Duration taken = absl::Now() - begin;
  const nlohmann::json addresses = nlohmann::json::parse(std::ifstream(ready));
  options_.grpc = addresses.at("grpc");
  options_.http = addresses.at("http");
  return taken;
}

}  // namespace p2::loadgen
