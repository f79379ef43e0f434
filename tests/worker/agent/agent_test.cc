// What a coordinator sees of a worker while both live.
#include "worker/agent/agent.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/metric_names.h"
#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "tests/support/directory_watch.h"
#include "tests/worker/agent/agent_fixture.h"

namespace p2::agent {
namespace {

using p2::v1::StopAttempt;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

std::string HttpGet(int port, const std::string& path) {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(static_cast<uint16_t>(port))};
  inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0) return "";
  if (!WriteAll(fd.get(), "http", absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).ok())
    return "";
  std::string answer;
  char buffer[4096];
  for (ssize_t n; (n = read(fd.get(), buffer, sizeof(buffer))) > 0;) answer.append(buffer, static_cast<size_t>(n));
  return answer;
}

int HttpPort(const std::string& ready_file) {
  return nlohmann::json::parse(ReadFile(ready_file, 4096).value())["http_port"];
}

// `name{labels}` of every series in Prometheus' text.
std::set<std::string> SeriesIn(const std::string& text) {
  std::set<std::string> series;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::StartsWith(line, "p2_") && !absl::StartsWith(line, "process_")) continue;
    const absl::string_view name = line.substr(0, line.find_first_of("{ "));
    std::set<std::string> labels;
    for (size_t at = name.size(); at < line.size() && line[at] != ' ' && line[at] != '}';) {
      const size_t equals = line.find('=', at);
      labels.insert(std::string(line.substr(at + 1, equals - at - 1)));
      at = line.find('"', equals + 2) + 1;
    }
    series.insert(absl::StrCat(name, "{", absl::StrJoin(labels, ","), "}"));
  }
  return series;
}

TEST_F(AgentTest, EveryHeartbeatTellsAllFaultsThatTheDriverReported) {
  const std::string nvml = dir_ / "libnvidia-ml.so.1";
  std::filesystem::copy_file(P2_FAKE_NVML, nvml);
  devices_ = "cuda:0,1";
  StartWorker({"--nvml-library", nvml, "--heartbeat-interval", "50ms"});
  EXPECT_EQ(coordinator_.seen().hellos.back().slots(1).uuid(), "GPU-fake-1");
  const auto awaited = [this](const std::vector<std::string>& faults) {
    return coordinator_.WaitFor([&faults](const FakeCoordinator::Seen& seen) {
      if (seen.heartbeats.empty()) return false;
      std::vector<std::string> told;
      for (const p2::v1::DeviceFault& fault : seen.heartbeats.back().device_faults())
        told.push_back(absl::StrCat(fault.slot(), " ", fault.xid(), " x", fault.count()));
      return told == faults;
    });
  };
  EXPECT_TRUE(awaited({}));
  std::ofstream(dir_ / "events", std::ios::app) << "xid GPU-fake-1 79\n";
  EXPECT_TRUE(awaited({"cuda:1 79 x1"}));
  std::ofstream(dir_ / "events", std::ios::app) << "xid GPU-fake-0 48\n";
  EXPECT_TRUE(awaited({"cuda:0 48 x1", "cuda:1 79 x1"}));
  std::ofstream(dir_ / "events", std::ios::app) << "xid GPU-fake-1 79\n";
  EXPECT_TRUE(awaited({"cuda:0 48 x1", "cuda:1 79 x2"}));
  // Also those of a stream that begins later.
  coordinator_.StopServer();
  const size_t before = coordinator_.seen().heartbeats.size();
  coordinator_.StartServer();
  EXPECT_TRUE(coordinator_.WaitFor([&](const auto& seen) { return seen.heartbeats.size() > before; }));
  EXPECT_TRUE(awaited({"cuda:0 48 x1", "cuda:1 79 x2"}));
}

TEST_F(AgentTest, SaysWhatItOffers) {
  StartWorker({"--label", "zone=a"});
  const p2::v1::Hello hello = coordinator_.seen().hellos.back();
  EXPECT_EQ(hello.worker(), "node-1");
  EXPECT_EQ(hello.protocol_version(), kProtocolVersion);
  EXPECT_EQ(hello.data_address(), "127.0.0.1");
  EXPECT_FALSE(hello.instance().empty());
  EXPECT_FALSE(hello.spool_id().empty());
  EXPECT_EQ(hello.labels().at("zone"), "a");
  ASSERT_THAT(hello.slots(), SizeIs(2));
  EXPECT_EQ(hello.slots(1).id(), "cpu:1");
  ASSERT_THAT(hello.roots(), SizeIs(1));
  EXPECT_EQ(hello.roots(0).id(), kRootId);
  EXPECT_GT(hello.roots(0).total_bytes(), 0);
  EXPECT_THAT(hello.running(), IsEmpty());
}

TEST_F(AgentTest, RunsAGangToItsEndAndReportsEverythingOnce) {
  StartWorker();
  Run("job-a", 1, "*:done=20;*:log=3;0:artifact");
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  ASSERT_THAT(ended.ranks(), SizeIs(2));
  for (const p2::v1::RankExit& rank : ended.ranks()) EXPECT_EQ(rank.exit_code(), 0);
  EXPECT_FALSE(ended.worker_stopped());

  const FakeCoordinator::Seen seen = coordinator_.seen();
  std::vector<int64_t> expected;
  for (int64_t step = 1; step <= 20; ++step) expected.push_back(step);
  EXPECT_EQ(Steps(seen, "job-a"), expected);
  EXPECT_EQ(CheckpointsOf(seen, "job-a"), 1);
  EXPECT_EQ(LogOf(seen, "job-a", 0), "line 0\nline 1\nline 2\nrank 0 begins\n");
  EXPECT_EQ(LogOf(seen, "job-a", 1), "line 0\nline 1\nline 2\nrank 1 begins\n");
  EXPECT_TRUE(seen.spool.back().has_ended()) << "the end comes last";
  EXPECT_EQ(seen.gaps + seen.repeats, 0);

  std::string artifact;
  int64_t size = 0;
  for (const p2::v1::SpoolRecord& record : seen.spool) {
    EXPECT_FALSE(record.trainer_event().has_progress()) << "progress is not spooled";
    if (!record.has_artifact()) continue;
    EXPECT_EQ(record.artifact().offset(), static_cast<int64_t>(artifact.size()));
    EXPECT_LE(record.artifact().data().size(), kArtifactChunkBytes);
    artifact += record.artifact().data();
    size = record.artifact().size_bytes();
  }
  EXPECT_EQ(artifact, std::string(600'000, 'p'));
  EXPECT_EQ(size, 600'000);
}

TEST_F(AgentTest, GivesTrainersTorchrunsVariablesAndNothingOfTheLoader) {
  setenv("LD_BIND_NOW", "1", 1);
  setenv("SECRET_TOKEN", "canary", 1);
  StartWorker();
  unsetenv("LD_BIND_NOW");
  unsetenv("SECRET_TOKEN");
  const p2::v1::PrepareReply reply = Prepare(Gang("job-a", 4));
  ASSERT_TRUE(reply.ok()) << reply.message();
  Start(reply, "*:env;*:done=1");
  AwaitEnd("job-a", 4);
  const std::string zero = LogOf(coordinator_.seen(), "job-a", 0), one = LogOf(coordinator_.seen(), "job-a", 1);
  for (const char* line : {"RANK=1\n", "LOCAL_RANK=1\n", "WORLD_SIZE=2\n", "LOCAL_WORLD_SIZE=2\n", "GROUP_RANK=0\n",
                           "MASTER_ADDR=127.0.0.1\n", "TORCHELASTIC_RUN_ID=job-a-e4\n", "P2_DEVICE=cpu\n",
                           "P2_DATA_INTERFACE=127.0.0.1\n", "P2_EVENT_FD=3\n"})
    EXPECT_THAT(one, HasSubstr(line));
  EXPECT_THAT(one, HasSubstr(absl::StrCat("MASTER_PORT=", reply.master_port(), "\n")));
  EXPECT_THAT(zero, HasSubstr("P2_STORE_FD=5\n"));
  EXPECT_THAT(zero, HasSubstr(absl::StrCat("store listens on ", reply.master_port(), "\n")));
  EXPECT_THAT(one, Not(HasSubstr("P2_STORE_FD")));
  EXPECT_THAT(zero + one, Not(HasSubstr("LD_BIND_NOW")));
  EXPECT_THAT(zero + one, Not(HasSubstr("canary")));
}

TEST_F(AgentTest, EndsTheWholeGangWhenOneRankDies) {
  StartWorker();
  Run("job-a", 1, "1:exit=52;1:log=2");
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  ASSERT_THAT(ended.ranks(), SizeIs(2));
  EXPECT_EQ(ended.ranks(1).exit_code(), 52);
  EXPECT_EQ(ended.ranks(1).message(), "told to fail");
  EXPECT_FALSE(ended.ranks(1).killed());
  EXPECT_TRUE(ended.ranks(0).killed());
  EXPECT_EQ(ended.ranks(0).exit_code(), 128 + SIGKILL);
  EXPECT_THAT(ended.ranks(0).message(), HasSubstr("because rank 1 ended with 52"));
  EXPECT_EQ(ended.log_tail(), "line 0\nline 1\nrank 1 begins\nrank 1 fails\n");
  EXPECT_THAT(Trainers(), IsEmpty());
}

TEST_F(AgentTest, NoticesAKilledTrainerAtOnce) {
  StartWorker();
  Run("job-a", 1, "");
  ASSERT_TRUE(AwaitStep("job-a", 1));
  const std::set<pid_t> trainers = Trainers();
  ASSERT_THAT(trainers, SizeIs(2));
  const absl::Time killed = Clock::Real().Monotonic();
  kill(*trainers.begin(), SIGKILL);
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  EXPECT_LT(Clock::Real().Monotonic() - killed, absl::Seconds(5)) << "the grace for the others is 0.5 s";
  for (const p2::v1::RankExit& rank : ended.ranks()) EXPECT_EQ(rank.exit_code(), 128 + SIGKILL);
}

TEST_F(AgentTest, NoticesAStoppedTrainerByItsSilence) {
  StartWorker({"--silence-timeout", "500ms"});
  Run("job-a", 1, "1:freeze");
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  EXPECT_FALSE(ended.ranks(0).frozen());
  EXPECT_TRUE(ended.ranks(1).frozen());
  EXPECT_THAT(ended.ranks(1).message(), HasSubstr("no sign of life"));
  EXPECT_THAT(Trainers(), IsEmpty());
}

TEST_F(AgentTest, NoticesARankThatHeartbeatsWithoutAdvancing) {
  StartWorker({"--watchdog-scale", "0.25"});
  Run("job-a", 1, "0:hang");
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  EXPECT_TRUE(ended.ranks(0).frozen());
  EXPECT_FALSE(ended.ranks(1).frozen());
  EXPECT_THAT(ended.ranks(0).message(), HasSubstr("no progress in phase STEP for 500ms"));
}

TEST_F(AgentTest, EndsAGangThatWritesGarbage) {
  StartWorker();
  Run("job-a", 1, "1:garbage");
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  EXPECT_THAT(ended.ranks(1).message(), HasSubstr("rank 1 wrote garbage on its event pipe"));
}

TEST_F(AgentTest, StopsWithACheckpointOnRequest) {
  StartWorker();
  Run("job-a", 1, "");
  ASSERT_TRUE(AwaitStep("job-a", 2));
  Stop("job-a", 1, StopAttempt::CHECKPOINT);
  Stop("job-a", 1, StopAttempt::CHECKPOINT);
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  for (const p2::v1::RankExit& rank : ended.ranks()) EXPECT_EQ(rank.exit_code(), 40);
  EXPECT_EQ(CheckpointsOf(coordinator_.seen(), "job-a"), 1);
  EXPECT_FALSE(ended.worker_stopped());
}

TEST_F(AgentTest, KillsWhatDoesNotStopWithinTheSpecsDeadline) {
  StartWorker({"--watchdog-scale", "0.25"});
  Run("job-a", 1, "1:deaf");
  ASSERT_TRUE(AwaitStep("job-a", 2));
  Stop("job-a", 1, StopAttempt::CHECKPOINT);
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  EXPECT_EQ(ended.ranks(0).exit_code(), 40);
  EXPECT_EQ(ended.ranks(1).exit_code(), 128 + SIGKILL);
  EXPECT_THAT(ended.ranks(1).message(), HasSubstr("did not end within 500ms"));
}

TEST_F(AgentTest, KillsAtOnceOnRequest) {
  StartWorker();
  Run("job-a", 1, "*:linger=60000");
  ASSERT_TRUE(AwaitStep("job-a", 2));
  Stop("job-a", 1, StopAttempt::KILL);
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  for (const p2::v1::RankExit& rank : ended.ranks()) EXPECT_EQ(rank.message(), "killed on request");
  EXPECT_EQ(CheckpointsOf(coordinator_.seen(), "job-a"), 0);
}

TEST_F(AgentTest, TakesRepeatedPreparesAndStartsForOne) {
  StartWorker();
  const p2::v1::PrepareReply first = Prepare(Gang("job-a", 1)), second = Prepare(Gang("job-a", 1));
  EXPECT_TRUE(second.ok());
  EXPECT_EQ(first.master_port(), second.master_port());
  Start(first, "");
  Start(first, "");
  ASSERT_TRUE(AwaitStep("job-a", 1));
  Start(first, "");
  EXPECT_TRUE(Prepare(Gang("job-a", 1)).ok());
  EXPECT_THAT(Trainers(), SizeIs(2));
  Stop("job-a", 1, StopAttempt::KILL);
  AwaitEnd("job-a", 1);
  EXPECT_THAT(Prepare(Gang("job-a", 1)).message(), HasSubstr("epoch 1 has ended here already"));
  Start(first, "");
  Run("job-a", 2, "*:done=1");
  AwaitEnd("job-a", 2);
  int ended = 0;
  const FakeCoordinator::Seen seen = coordinator_.seen();
  for (const p2::v1::SpoolRecord& record : seen.spool) ended += record.has_ended() ? 1 : 0;
  EXPECT_EQ(ended, 2);
}

TEST_F(AgentTest, RefusesAStaleEpochAndFencesAnOlderOne) {
  StartWorker();
  Run("job-a", 5, "");
  ASSERT_TRUE(AwaitStep("job-a", 1));
  EXPECT_THAT(Prepare(Gang("job-a", 4)).message(), HasSubstr("epoch 4 is stale: this worker has seen 5"));
  Stop("job-a", 4, StopAttempt::KILL);
  EXPECT_THAT(Trainers(), SizeIs(2)) << "a Stop of another epoch does nothing";
  const p2::v1::PrepareReply busy = Prepare(Gang("job-a", 6));
  EXPECT_FALSE(busy.ok());
  EXPECT_THAT(busy.message(), HasSubstr("slot cpu:0 is held by job job-a epoch 5; try again"));
  EXPECT_THAT(AwaitEnd("job-a", 5).ranks(0).message(), HasSubstr("epoch 6 of the job begins"));
  EXPECT_TRUE(Prepare(Gang("job-a", 6)).ok());
}

TEST_F(AgentTest, RefusesAGangThatItCannotRunAndSaysWhy) {
  StartWorker();
  const auto refusal = [&](const std::function<void(p2::v1::Prepare&)>& change) {
    p2::v1::Prepare prepare = Gang("job-b", 1);
    change(prepare);
    const p2::v1::PrepareReply reply = Prepare(prepare);
    EXPECT_FALSE(reply.ok());
    return reply.message();
  };
  EXPECT_THAT(refusal([](auto& p) { p.mutable_ranks(0)->set_slot("cuda:0"); }), HasSubstr("there is no slot cuda:0"));
  EXPECT_THAT(refusal([](auto& p) { p.mutable_ranks(0)->set_slot("cpu:1"); }),
              HasSubstr("slot cpu:1 is held by another rank of this gang"));
  EXPECT_THAT(refusal([](auto& p) { p.set_job("../up"); }), HasSubstr("\"../up\" is no job ID"));
  EXPECT_THAT(
      refusal([](auto& p) { p.set_checkpoint_root_id("11111111-2222-3333-4444-555555555555"); }),
      HasSubstr("storage root \"main\" (ID 11111111-2222-3333-4444-555555555555) is not visible; here main has ID"));
  EXPECT_THAT(refusal([](auto& p) { p.set_dataset_path("none"); }), HasSubstr("p2ctl dataset prepare"));
  EXPECT_THAT(refusal([](auto& p) { p.set_dataset_path("../root/data"); }), HasSubstr("must be relative"));
  EXPECT_THAT(refusal([](auto& p) { p.set_dataset_fingerprint("beef"); }),
              HasSubstr("has fingerprint \"f00d\", the job wants \"beef\""));
  EXPECT_TRUE(Prepare(Gang("job-b", 1)).ok()) << "and the slots are still free";
}

TEST_F(AgentTest, GivesHeldSlotsBackWhenNoStartComes) {
  StartWorker({"--hold-timeout", "200ms"});
  const p2::v1::PrepareReply reply = Prepare(Gang("job-a", 1));
  ASSERT_TRUE(reply.ok());
  while (!Prepare(Gang("job-b", 1)).ok()) {
  }
  Start(reply, "");
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  Start(reply, "");
  EXPECT_TRUE(ended.worker_stopped()) << "the job is not to blame";
  EXPECT_THAT(ended.log_tail(), HasSubstr("the hold ran out"));
}

TEST_F(AgentTest, GivesHeldSlotsBackOnStop) {
  StartWorker();
  ASSERT_TRUE(Prepare(Gang("job-a", 1)).ok());
  EXPECT_FALSE(Prepare(Gang("job-b", 1)).ok());
  Stop("job-a", 1, StopAttempt::CHECKPOINT);
  EXPECT_TRUE(Prepare(Gang("job-b", 1)).ok());
}

TEST_F(AgentTest, HeartbeatsTheSlowestRanksProgress) {
  StartWorker();
  Run("job-a", 1, "");
  EXPECT_TRUE(coordinator_.WaitFor([](const auto& seen) {
    for (const p2::v1::Heartbeat& heartbeat : seen.heartbeats)
      for (const p2::v1::AttemptProgress& progress : heartbeat.progress())
        if (progress.job() == "job-a" && progress.epoch() == 1 && progress.progress().images_seen() > 8) return true;
    return false;
  }));
}

TEST_F(AgentTest, DeletesBelowARootOnlyAndAgainHarmlessly) {
  std::filesystem::create_directories(dir_ / "root/jobs/job-a/checkpoints/8");
  std::filesystem::create_directories(dir_ / "root/jobs/job-b/checkpoints/8");
  std::filesystem::create_directories(dir_ / "root/jobs/job-b/checkpoints/16");
  std::ofstream(dir_ / "root/jobs/job-b/checkpoints/16/model") << std::string(1000, 'x');
  StartWorker();
  const auto remove = [&](const std::string& path) {
    const size_t before = coordinator_.seen().deletes.size();
    p2::v1::ConnectResponse message;
    message.mutable_delete_()->set_root_id(kRootId);
    message.mutable_delete_()->set_path(path);
    coordinator_.Send(message);
    EXPECT_TRUE(coordinator_.WaitFor([&](const auto& seen) { return seen.deletes.size() > before; }));
    return coordinator_.seen().deletes.back().error();
  };
  EXPECT_EQ(remove("jobs/job-a"), "");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "root/jobs/job-a"));
  EXPECT_EQ(remove("jobs/job-a"), "");
  EXPECT_THAT(remove("../state/spool"), HasSubstr("must be relative"));
  EXPECT_TRUE(std::filesystem::exists(dir_ / "state/spool"));

  // With its last checkpoint a job's own directories go, and nothing above them.
  EXPECT_EQ(remove("jobs/job-b/checkpoints/8"), "");
  EXPECT_TRUE(std::filesystem::exists(dir_ / "root/jobs/job-b/checkpoints/16/model"));
  EXPECT_EQ(remove("jobs/job-b/checkpoints/16"), "");
  EXPECT_FALSE(std::filesystem::exists(dir_ / "root/jobs/job-b"));
  EXPECT_TRUE(std::filesystem::exists(dir_ / "root/jobs"));
  EXPECT_TRUE(std::filesystem::exists(dir_ / "root/.p2-root-id"));
  EXPECT_THAT(HttpGet(HttpPort(dir_ / "ready"), "/metrics"), HasSubstr("p2_gc_deleted_bytes_total 1000\n"));
}

TEST_F(AgentTest, LeavesNoDirectoryOfAJobWithoutACheckpoint) {
  StartWorker();
  Run("job-a", 1, "*:exit=54");
  AwaitEnd("job-a", 1);
  const std::string jobs = dir_ / "root/jobs";
  EXPECT_TRUE(p2::testing::WaitForFiles(jobs, [&] { return !std::filesystem::exists(jobs + "/job-a"); }));
}

TEST_F(AgentTest, ServesMetricsAndHealth) {
  StartWorker();
  ASSERT_TRUE(coordinator_.WaitFor([](const auto& seen) { return !seen.heartbeats.empty(); }));
  const nlohmann::json ready = nlohmann::json::parse(ReadFile(dir_ / "ready", 4096).value());
  EXPECT_EQ(ready["pid"], worker_->pid());
  EXPECT_EQ(ready["worker"], "node-1");
  const int port = HttpPort(dir_ / "ready");
  EXPECT_THAT(HttpGet(port, "/livez"), HasSubstr("200 OK"));
  EXPECT_THAT(HttpGet(port, "/readyz"), HasSubstr("200 OK"));
  std::string metrics;
  do metrics = HttpGet(port, "/metrics");
  while (metrics.find("p2_devices{kind=\"cpu\",state=\"free\"} 2") == std::string::npos);  // Published by ticks.
  for (const char* line : {"p2_devices{kind=\"cpu\",state=\"free\"} 2", "p2_images_total 0", "p2_worker_connected 1",
                           "p2_worker_spool_bytes 0", "p2_build_info{version=\""})
    EXPECT_THAT(metrics, HasSubstr(line));
  std::set<std::string> table;
  for (const metric::Series& series : metric::kSeries) {
    const bool of_gpus = series.name == absl::string_view(metric::kGpuSecondsTotal);
    if (series.of_worker && !of_gpus) table.insert(absl::StrCat(series.name, "{", series.labels, "}"));
  }
  EXPECT_EQ(SeriesIn(metrics), table);
  coordinator_.StopServer();
  std::string readiness;
  do readiness = HttpGet(port, "/readyz");
  while (readiness.find("503") == std::string::npos);
  EXPECT_THAT(readiness, HasSubstr("not connected to the coordinator"));
}

TEST_F(AgentTest, IsNotAliveWhileItsLoopDoesNotRun) {
  // The loop runs every 50 ms: by this limit it stands still in between.
  StartWorker({"--stuck-after", "1ms"});
  std::string answer;
  do answer = HttpGet(HttpPort(dir_ / "ready"), "/livez");
  while (!absl::StrContains(answer, "503"));
  EXPECT_THAT(answer, HasSubstr("the loop has not run for"));
}

TEST_F(AgentTest, CountsTheImagesOfItsRanksFromWhereTheyResumedToTheirEnd) {
  StartWorker();
  Run("job-a", 1, "*:from=80000;*:done=20");
  AwaitEnd("job-a", 1);
  std::string metrics;
  for (const absl::Time end = absl::Now() + absl::Seconds(30); absl::Now() < end;) {
    metrics = HttpGet(HttpPort(dir_ / "ready"), "/metrics");
    if (absl::StrContains(metrics, "p2_images_total 160\n")) break;
  }
  EXPECT_THAT(metrics, HasSubstr("p2_images_total 160\n"));
}

TEST_F(AgentTest, RefusesARootWithoutAnIdAndNamesTheCommand) {
  std::filesystem::create_directory(dir_ / "bare");
  Process worker(WorkerCommand({"--root", absl::StrCat("bare=", dir_ / "bare")}), dir_ / "error.log");
  EXPECT_EQ(worker.Wait(), 2);
  EXPECT_THAT(ReadFile(dir_ / "error.log", 1 << 20).value(),
              HasSubstr(absl::StrCat("`p2ctl root init ", dir_ / "bare", "` makes it a root")));
}

}  // namespace
}  // namespace p2::agent
