#include "tests/worker/agent/agent_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"
#include "worker/agent/files.h"

namespace p2::agent {

constexpr absl::Duration kPatience = absl::Seconds(30);

std::string FakeCoordinator::address() const { return absl::StrCat("127.0.0.1:", port_); }

void FakeCoordinator::StartServer() {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", port_), grpc::InsecureServerCredentials(), &port_);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  ASSERT_NE(server_, nullptr);
}

void FakeCoordinator::StopServer() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_.reset();
}

grpc::Status FakeCoordinator::Connect(grpc::ServerContext*, Stream* stream) {
  for (p2::v1::ConnectRequest message; stream->Read(&message);) OnMessage(message, *stream);
  absl::MutexLock lock(&mutex_);
  if (stream_ == stream) {
    stream_ = nullptr;
    seen_.connected = false;
  }
  return grpc::Status::OK;
}

void FakeCoordinator::OnMessage(const p2::v1::ConnectRequest& message, Stream& stream) {
  using p2::v1::ConnectRequest;
  absl::MutexLock lock(&mutex_);
  p2::v1::ConnectResponse answer;
  switch (message.message_case()) {
    case ConnectRequest::kHello:
      if (!seen_.hellos.empty() && seen_.hellos.back().spool_id() != message.hello().spool_id()) acked_ = 0;
      seen_.hellos.push_back(message.hello());
      seen_.connected = true;
      stream_ = &stream;
      answer.mutable_welcome()->set_version("test");
      answer.mutable_welcome()->set_spool_acked(acked_);
      answer.mutable_welcome()->set_heartbeat_interval_ms(100);
      stream.Write(answer);
      return;
    case ConnectRequest::kHeartbeat:
      seen_.heartbeats.push_back(message.heartbeat());
      return;
    case ConnectRequest::kPrepareReply:
      seen_.replies.push_back(message.prepare_reply());
      return;
    case ConnectRequest::kDeleteDone:
      seen_.deletes.push_back(message.delete_done());
      return;
    case ConnectRequest::kSpool:
      if (message.spool().sequence() <= acked_) {
        ++seen_.repeats;
        return;
      }
      if (message.spool().sequence() != acked_ + 1) ++seen_.gaps;
      acked_ = message.spool().sequence();
      seen_.spool.push_back(message.spool());
      if (!acking_) return;
      answer.mutable_spool_ack()->set_sequence(acked_);
      stream.Write(answer);
      return;
    case ConnectRequest::MESSAGE_NOT_SET:
      return;
  }
}

void FakeCoordinator::Send(const p2::v1::ConnectResponse& message) {
  absl::MutexLock lock(&mutex_);
  ASSERT_NE(stream_, nullptr) << "no worker is connected";
  stream_->Write(message);
}

void FakeCoordinator::SetAcking(bool acking) {
  absl::MutexLock lock(&mutex_);
  acking_ = acking;
}

bool FakeCoordinator::WaitFor(const std::function<bool(const Seen&)>& done) {
  absl::MutexLock lock(&mutex_);
  const auto holds = [this, &done]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return done(seen_); };
  return mutex_.AwaitWithTimeout(absl::Condition(&holds), kPatience);
}

FakeCoordinator::Seen FakeCoordinator::seen() {
  absl::MutexLock lock(&mutex_);
  return seen_;
}

Process::Process(const std::vector<std::string>& command, const std::string& log) {
  std::vector<char*> argv;
  for (const std::string& argument : command) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const UniqueFd output(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600));
  pid_ = fork();
  if (pid_ == 0) {
    dup2(output.get(), STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
}

Process::~Process() {
  if (waited_) return;
  Signal(SIGKILL);
  waitpid(pid_, nullptr, 0);
}

void Process::Signal(int signal) const { kill(pid_, signal); }

int Process::Wait() {
  const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
  pollfd item = {pidfd.get(), POLLIN, 0};
  if (poll(&item, 1, static_cast<int>(absl::ToInt64Milliseconds(kPatience))) != 1) {
    ADD_FAILURE() << "process " << pid_ << " does not end";
    return -1;
  }
  int status = 0;
  waitpid(pid_, &status, 0);
  waited_ = true;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

AgentTest::AgentTest() {
  std::filesystem::create_directories(dir_ / "root/data");
  std::ofstream(dir_ / "root/.p2-root-id") << kRootId << "\n";
  std::ofstream(dir_ / "root/data/dataset.json") << R"({"fingerprint": "f00d"})";
}

AgentTest::~AgentTest() {
  worker_.reset();
  for (const pid_t pid : Trainers()) kill(pid, SIGKILL);
  if (HasFailure()) std::cerr << ReadFile(dir_ / "worker.log", 1 << 20).value_or("") << std::endl;
}

std::vector<std::string> AgentTest::WorkerCommand(const std::vector<std::string>& flags) const {
  std::vector<std::string> command = {P2_BIN_DIR "/p2-worker",
                                      "--coordinator",
                                      coordinator_.address(),
                                      "--name",
                                      "node-1",
                                      "--devices",
                                      devices_,
                                      "--root",
                                      absl::StrCat("main=", dir_ / "root"),
                                      "--data-dir",
                                      dir_ / "state",
                                      "--trainer",
                                      P2_STUB_TRAINER,
                                      "--http",
                                      "127.0.0.1:0",
                                      "--ready-file",
                                      dir_ / "ready",
                                      "--log-interval",
                                      "50ms",
                                      "--reconnect-max",
                                      "200ms",
                                      "--gang-grace",
                                      "500ms"};
  command.insert(command.end(), flags.begin(), flags.end());
  return command;
}

void AgentTest::StartWorker(const std::vector<std::string>& flags) {
  const size_t hellos = coordinator_.seen().hellos.size();
  worker_ = std::make_unique<Process>(WorkerCommand(flags), dir_ / "worker.log");
  ASSERT_TRUE(coordinator_.WaitFor([&](const auto& seen) { return seen.hellos.size() > hellos; })) << "no Hello";
}

p2::v1::Prepare AgentTest::Gang(const std::string& job, int64_t epoch) const {
  p2::v1::Prepare prepare;
  prepare.set_job(job);
  prepare.set_epoch(epoch);
  prepare.set_attempt(static_cast<int32_t>(epoch));
  prepare.set_world_size(2);
  for (int i = 0; i < 2; ++i) {
    p2::v1::PlacedRank& rank = *prepare.add_ranks();
    rank.set_rank(i);
    rank.set_local_rank(i);
    rank.set_slot(absl::StrCat("cpu:", i));
  }
  prepare.set_dataset_root("main");
  prepare.set_dataset_root_id(kRootId);
  prepare.set_dataset_path("data");
  prepare.set_dataset_fingerprint("f00d");
  prepare.set_checkpoint_root("main");
  prepare.set_checkpoint_root_id(kRootId);
  return prepare;
}

p2::v1::PrepareReply AgentTest::Prepare(const p2::v1::Prepare& prepare) {
  const size_t before = coordinator_.seen().replies.size();
  p2::v1::ConnectResponse message;
  *message.mutable_prepare() = prepare;
  coordinator_.Send(message);
  EXPECT_TRUE(coordinator_.WaitFor([&](const auto& seen) { return seen.replies.size() > before; }))
      << "no PrepareReply";
  const auto replies = coordinator_.seen().replies;
  return replies.size() > before ? replies.back() : p2::v1::PrepareReply();
}

void AgentTest::Start(const p2::v1::PrepareReply& reply, const std::string& behaviour) {
  p2::v1::ConnectResponse message;
  p2::v1::Start& start = *message.mutable_start();
  start.set_job(reply.job());
  start.set_epoch(reply.epoch());
  start.set_master_address(reply.master_address());
  start.set_master_port(reply.master_port());
  start.mutable_launch()->mutable_spec()->set_description(behaviour);
  *start.mutable_launch()->mutable_spec()->mutable_deadlines() = deadlines_;
  start.mutable_launch()->mutable_spec()->mutable_deadlines()->mutable_stop()->set_seconds(2);
  start.mutable_launch()->mutable_spec()->mutable_deadlines()->mutable_step()->set_seconds(2);
  coordinator_.Send(message);
}

void AgentTest::Run(const std::string& job, int64_t epoch, const std::string& behaviour) {
  const p2::v1::PrepareReply reply = Prepare(Gang(job, epoch));
  ASSERT_TRUE(reply.ok()) << reply.message();
  Start(reply, behaviour);
}

void AgentTest::Stop(const std::string& job, int64_t epoch, p2::v1::StopAttempt::Mode mode) {
  p2::v1::ConnectResponse message;
  message.mutable_stop()->set_job(job);
  message.mutable_stop()->set_epoch(epoch);
  message.mutable_stop()->set_mode(mode);
  coordinator_.Send(message);
}

p2::v1::AttemptEnded AgentTest::AwaitEnd(const std::string& job, int64_t epoch) {
  p2::v1::AttemptEnded ended;
  EXPECT_TRUE(coordinator_.WaitFor([&](const auto& seen) {
    for (const p2::v1::SpoolRecord& record : seen.spool)
      if (record.has_ended() && record.job() == job && record.epoch() == epoch) {
        ended = record.ended();
        return true;
      }
    return false;
  })) << job
      << " does not end";
  return ended;
}

bool AgentTest::AwaitStep(const std::string& job, int64_t step) {
  return coordinator_.WaitFor([&](const auto& seen) {
    const std::vector<int64_t> steps = Steps(seen, job);
    return !steps.empty() && steps.back() >= step;
  });
}

std::set<pid_t> AgentTest::Trainers() const {
  std::set<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    const auto environment = ReadFile(absl::StrCat(entry.path().string(), "/environ"), 1 << 20);
    if (environment.ok() && absl::StrContains(*environment, absl::StrCat("P2_EVENT_LOG=", dir_ / "state")))
      found.insert(pid);
  }
  return found;
}

std::vector<int64_t> Steps(const FakeCoordinator::Seen& seen, const std::string& job) {
  std::vector<int64_t> steps;
  for (const p2::v1::SpoolRecord& record : seen.spool)
    if (record.job() == job && record.trainer_event().has_metrics())
      steps.push_back(record.trainer_event().metrics().step());
  return steps;
}

std::string LogOf(const FakeCoordinator::Seen& seen, const std::string& job, int32_t rank) {
  std::string log;
  for (const p2::v1::SpoolRecord& record : seen.spool) {
    if (record.job() != job || record.rank() != rank || !record.has_log()) continue;
    EXPECT_EQ(record.log().offset(), static_cast<int64_t>(log.size())) << "the log has a gap";
    log += record.log().data();
  }
  return log;
}

int CheckpointsOf(const FakeCoordinator::Seen& seen, const std::string& job) {
  int count = 0;
  for (const p2::v1::SpoolRecord& record : seen.spool)
    count += record.job() == job && record.trainer_event().has_checkpoint();
  return count;
}

}  // namespace p2::agent
