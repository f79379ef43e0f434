// The p2d that is measured: its own, or one that runs already.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "bench/loadgen/process.h"

namespace p2::loadgen {

struct ServerOptions {
  // Start an own p2d, which ends with the ServerUnderTest; else use the one at the addresses below.
  bool spawn = false;
  // Program; more flags of it; where its directory is made; the core that it gets.
  std::string p2d;
  std::vector<std::string> flags;
  std::string parent_directory = "/tmp";
  int core = 0;
  // HOST:PORT.
  std::string grpc = "127.0.0.1:7250";
  std::string http = "127.0.0.1:7251";
};

// Confined to one thread.
class ServerUnderTest {
 public:
  // The p2d serves when it returns.
  static absl::StatusOr<std::unique_ptr<ServerUnderTest>> Open(ServerOptions options);

  const std::string& grpc() const { return options_.grpc; }
  const std::string& http() const { return options_.http; }

  // Of a spawned one, as all below.
  bool spawned() const { return options_.spawn; }
  Process& process() { return *process_; }
  bool on_disk() const { return directory_->on_disk(); }
  std::string data_directory() const { return directory_->path() + "/data"; }
  // SIGKILL, as a crash would end it.
  void Kill() { process_->Kill(); }
  // Starts it (again) on its data and its ports, and returns how long that took until it served. Ended before:
  // FAILED_PRECONDITION with the end of its log.
  absl::StatusOr<absl::Duration> Start();

 private:
  explicit ServerUnderTest(ServerOptions options) : options_(std::move(options)) {}

  ServerOptions options_;
  std::unique_ptr<TemporaryDirectory> directory_;
  std::unique_ptr<Process> process_;
};

}  // namespace p2::loadgen
