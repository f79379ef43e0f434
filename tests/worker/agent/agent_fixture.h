// A real p2-worker process with stub trainers, and a coordinator inside the test that it talks to.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/server.h"
#include "gtest/gtest.h"
#include "p2/v1/worker_service.grpc.pb.h"
#include "tests/worker/agent/temp_dir.h"

namespace p2::agent {

inline constexpr char kRootId[] = "0d9be0a3-6f2c-4b2f-9f53-0c3d2c8d1a11";

// Keeps what a worker says. Its spool is applied as p2d does: each sequence once, in order, then acknowledged.
class FakeCoordinator : public p2::v1::WorkerService::Service {
 public:
  struct Seen {
    std::vector<p2::v1::Hello> hellos;
    std::vector<p2::v1::Heartbeat> heartbeats;
    std::vector<p2::v1::PrepareReply> replies;
    std::vector<p2::v1::DeleteDone> deletes;
    std::vector<p2::v1::SpoolRecord> spool;
    // Records that came with a sequence that did not follow.
    int gaps = 0;
    int repeats = 0;
    bool connected = false;
  };

  FakeCoordinator() { StartServer(); }
  ~FakeCoordinator() override { StopServer(); }

  // Keeps the port, so that a worker finds it again.
  void StartServer();
  void StopServer();
  std::string address() const;

  void Send(const p2::v1::ConnectResponse& message);
  // Whether acknowledgements are sent; Welcome always tells the truth.
  void SetAcking(bool acking);
  // Waits until `done` holds of what was seen; false after 30 s.
  bool WaitFor(const std::function<bool(const Seen&)>& done);
  Seen seen();

 private:
  using Stream = grpc::ServerReaderWriter<p2::v1::ConnectResponse, p2::v1::ConnectRequest>;
  grpc::Status Connect(grpc::ServerContext* context, Stream* stream) override;
  void OnMessage(const p2::v1::ConnectRequest& message, Stream& stream);

  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
  absl::Mutex mutex_;
  Seen seen_ ABSL_GUARDED_BY(mutex_);
  uint64_t acked_ ABSL_GUARDED_BY(mutex_) = 0;
  bool acking_ ABSL_GUARDED_BY(mutex_) = true;
  Stream* stream_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

// A child process; killed with the object.
class Process {
 public:
  // stderr goes to `log`.
  Process(const std::vector<std::string>& command, const std::string& log);
  ~Process();
  Process(const Process&) = delete;

  void Signal(int signal) const;
  // Exit code, or 128 + n for signal n; fails the test after 30 s.
  int Wait();
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
  bool waited_ = false;
};

class AgentTest : public ::testing::Test {
 protected:
  AgentTest();
  ~AgentTest() override;

  // `devices_`, root `main`, dataset `data` in it.
  void StartWorker(const std::vector<std::string>& flags = {});
  std::vector<std::string> WorkerCommand(const std::vector<std::string>& flags = {}) const;

  p2::v1::Prepare Gang(const std::string& job, int64_t epoch) const;
  // PREPARE and its answer.
  p2::v1::PrepareReply Prepare(const p2::v1::Prepare& prepare);
  void Start(const p2::v1::PrepareReply& reply, const std::string& behaviour);
  // Both, of two ranks.
  void Run(const std::string& job, int64_t epoch, const std::string& behaviour);
  void Stop(const std::string& job, int64_t epoch, p2::v1::StopAttempt::Mode mode);
  // The attempt's report.
  p2::v1::AttemptEnded AwaitEnd(const std::string& job, int64_t epoch);
  // Until rank 0 has reported metrics of `step`.
  bool AwaitStep(const std::string& job, int64_t step);
  // Every process whose environment names this test's data directory.
  std::set<pid_t> Trainers() const;

  p2::v1::DeadlineSpec deadlines_;  // Of what Start starts; stop and step are 2 s.
  std::string devices_ = "cpu:2";
  TempDir dir_;
  FakeCoordinator coordinator_;
  std::unique_ptr<Process> worker_;
};

// Metric steps of a job's rank 0, in the order in which they were applied.
std::vector<int64_t> Steps(const FakeCoordinator::Seen& seen, const std::string& job);
std::string LogOf(const FakeCoordinator::Seen& seen, const std::string& job, int32_t rank);
int CheckpointsOf(const FakeCoordinator::Seen& seen, const std::string& job);

}  // namespace p2::agent
