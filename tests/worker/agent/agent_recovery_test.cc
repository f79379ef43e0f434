// What survives when the coordinator, the worker or the stream between them goes away.
#include <signal.h>

#include <numeric>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "tests/worker/agent/agent_fixture.h"
#include "worker/agent/files.h"
#include "worker/agent/journal.h"

namespace p2::agent {
namespace {

using p2::v1::StopAttempt;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// 1, 2, … without a gap or a repetition.
void ExpectEachStepOnce(const FakeCoordinator::Seen& seen, const std::string& job) {
  std::vector<int64_t> expected(Steps(seen, job).size());
  std::iota(expected.begin(), expected.end(), 1);
  EXPECT_EQ(Steps(seen, job), expected);
  EXPECT_EQ(seen.gaps, 0);
}

TEST_F(AgentTest, GoesOnWithoutACoordinatorAndReportsEverythingExactlyOnce) {
  StartWorker();
  Run("job-a", 1, "");
  ASSERT_TRUE(AwaitStep("job-a", 3));
  const std::set<pid_t> trainers = Trainers();
  for (int round = 0; round < 3; ++round) {
    const int64_t step = Steps(coordinator_.seen(), "job-a").back();
    const size_t hellos = coordinator_.seen().hellos.size();
    coordinator_.StopServer();
    coordinator_.StartServer();
    ASSERT_TRUE(coordinator_.WaitFor([&](const auto& seen) { return seen.hellos.size() > hellos && seen.connected; }));
    const p2::v1::Hello hello = coordinator_.seen().hellos.back();
    ASSERT_THAT(hello.running(), SizeIs(1));
    EXPECT_EQ(hello.running(0).job(), "job-a");
    EXPECT_EQ(hello.running(0).epoch(), 1);
    EXPECT_FALSE(hello.running(0).prepared());
    EXPECT_GT(hello.running(0).images_seen(), 0);
    ASSERT_TRUE(AwaitStep("job-a", step + 5));
  }
  EXPECT_EQ(Trainers(), trainers) << "training was never interrupted";
  Stop("job-a", 1, StopAttempt::CHECKPOINT);
  AwaitEnd("job-a", 1);
  ExpectEachStepOnce(coordinator_.seen(), "job-a");
  EXPECT_EQ(coordinator_.seen().hellos.front().instance(), coordinator_.seen().hellos.back().instance());
}

TEST_F(AgentTest, FencesAJobThatWantsItAfterALongAbsence) {
  deadlines_.mutable_fence_after()->set_nanos(300'000'000);
  StartWorker();
  Run("job-a", 1, "");
  ASSERT_TRUE(AwaitStep("job-a", 3));
  coordinator_.StopServer();
  while (!Trainers().empty()) {
  }
  coordinator_.StartServer();
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  EXPECT_TRUE(ended.fenced());
  EXPECT_TRUE(ended.worker_stopped()) << "the job is not to blame";
  for (const p2::v1::RankExit& rank : ended.ranks()) EXPECT_EQ(rank.exit_code(), 40);
  EXPECT_EQ(CheckpointsOf(coordinator_.seen(), "job-a"), 1);
  ExpectEachStepOnce(coordinator_.seen(), "job-a");
}

TEST_F(AgentTest, ReportsAnAttemptThatEndedWhileTheCoordinatorWasAway) {
  StartWorker();
  Run("job-a", 1, "*:done=30");
  ASSERT_TRUE(AwaitStep("job-a", 1));
  coordinator_.StopServer();
  for (const pid_t pid : Trainers())
    while (kill(pid, 0) == 0 && Trainers().contains(pid)) {
    }
  coordinator_.StartServer();
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  for (const p2::v1::RankExit& rank : ended.ranks()) EXPECT_EQ(rank.exit_code(), 0);
  ExpectEachStepOnce(coordinator_.seen(), "job-a");
  EXPECT_THAT(Steps(coordinator_.seen(), "job-a"), SizeIs(30));
}

TEST_F(AgentTest, SendsAgainWhatWasNotAcknowledgedAfterItsOwnRestart) {
  StartWorker();
  coordinator_.SetAcking(false);
  Run("job-a", 1, "*:done=10");
  AwaitEnd("job-a", 1);
  worker_->Signal(SIGKILL);
  worker_->Wait();
  coordinator_.SetAcking(true);
  StartWorker();
  Run("job-b", 1, "*:done=5");
  AwaitEnd("job-b", 1);
  ExpectEachStepOnce(coordinator_.seen(), "job-a");
  ExpectEachStepOnce(coordinator_.seen(), "job-b");
  EXPECT_EQ(coordinator_.seen().hellos.front().spool_id(), coordinator_.seen().hellos.back().spool_id());
}

TEST_F(AgentTest, SettlesWhatAKilledWorkerLeftBeforeItOffersSlots) {
  StartWorker();
  Run("job-a", 3, "*:linger=300");
  ASSERT_TRUE(AwaitStep("job-a", 5));
  ASSERT_THAT(Trainers(), SizeIs(2));
  worker_->Signal(SIGKILL);
  worker_->Wait();
  StartWorker();
  EXPECT_THAT(Trainers(), IsEmpty()) << "none is left when slots are offered";
  EXPECT_THAT(coordinator_.seen().hellos.back().running(), IsEmpty());
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 3);
  EXPECT_TRUE(ended.worker_stopped());
  for (const p2::v1::RankExit& rank : ended.ranks()) EXPECT_EQ(rank.exit_code(), 40);
  const FakeCoordinator::Seen seen = coordinator_.seen();
  ExpectEachStepOnce(seen, "job-a");
  EXPECT_EQ(CheckpointsOf(seen, "job-a"), 1) << "the checkpoint made after the worker's death";
  EXPECT_NE(seen.hellos.front().instance(), seen.hellos.back().instance());
  Run("job-a", 4, "*:done=2");
  AwaitEnd("job-a", 4);
  EXPECT_TRUE(coordinator_.WaitFor([&](const auto&) { return std::filesystem::is_empty(dir_ / "state/attempts"); }))
      << "directories go once all is acknowledged";
}

TEST_F(AgentTest, KillsLeftoversThatDoNotEndWithinTheStopDeadline) {
  StartWorker({"--watchdog-scale", "0.25"});
  Run("job-a", 1, "*:deaf");
  ASSERT_TRUE(AwaitStep("job-a", 2));
  worker_->Signal(SIGKILL);
  worker_->Wait();
  StartWorker();
  EXPECT_THAT(Trainers(), IsEmpty());
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  EXPECT_TRUE(ended.worker_stopped());
  for (const p2::v1::RankExit& rank : ended.ranks()) EXPECT_EQ(rank.exit_code(), 128 + SIGKILL);
  ExpectEachStepOnce(coordinator_.seen(), "job-a");
}

TEST_F(AgentTest, FindsRanksThatTheKilledWorkerCouldNotNote) {
  StartWorker({"--watchdog-scale", "0.25"});
  Run("job-a", 1, "*:deaf");
  ASSERT_TRUE(AwaitStep("job-a", 2));
  worker_->Signal(SIGKILL);
  worker_->Wait();
  const std::string attempt = dir_ / "state/attempts/job-a-e1";
  absl::StatusOr<JournalEntry> journal = ReadJournal(attempt);
  ASSERT_TRUE(journal.ok()) << journal.status();
  for (JournalRank& rank : journal->ranks) rank.process = {};  // As if it had died between the start and the note.
  ASSERT_TRUE(WriteJournal(attempt, *journal).ok());
  ASSERT_THAT(Trainers(), SizeIs(2));
  StartWorker();
  EXPECT_THAT(Trainers(), IsEmpty()) << "none is left when slots are offered";
  EXPECT_TRUE(AwaitEnd("job-a", 1).worker_stopped());
}

TEST_F(AgentTest, EndsCleanlyOnSigterm) {
  StartWorker();
  Run("job-a", 1, "");
  ASSERT_TRUE(AwaitStep("job-a", 2));
  worker_->Signal(SIGTERM);
  EXPECT_EQ(worker_->Wait(), 0);
  EXPECT_THAT(Trainers(), IsEmpty());
  const p2::v1::AttemptEnded ended = AwaitEnd("job-a", 1);
  EXPECT_TRUE(ended.worker_stopped());
  for (const p2::v1::RankExit& rank : ended.ranks()) EXPECT_EQ(rank.exit_code(), 40);
  EXPECT_EQ(CheckpointsOf(coordinator_.seen(), "job-a"), 1);
  EXPECT_TRUE(std::filesystem::is_empty(dir_ / "state/attempts"));
}

TEST_F(AgentTest, EndsCleanlyOnSigtermWithoutACoordinatorAndReportsLater) {
  StartWorker({"--flush-timeout", "100ms"});
  Run("job-a", 1, "");
  ASSERT_TRUE(AwaitStep("job-a", 2));
  coordinator_.StopServer();
  worker_->Signal(SIGTERM);
  EXPECT_EQ(worker_->Wait(), 0);
  EXPECT_THAT(Trainers(), IsEmpty());
  coordinator_.StartServer();
  StartWorker();
  EXPECT_TRUE(AwaitEnd("job-a", 1).worker_stopped());
  EXPECT_EQ(CheckpointsOf(coordinator_.seen(), "job-a"), 1);
  ExpectEachStepOnce(coordinator_.seen(), "job-a");
}

TEST_F(AgentTest, KillsItsRanksOnASecondSigterm) {
  StartWorker();
  Run("job-a", 1, "*:linger=60000");
  ASSERT_TRUE(AwaitStep("job-a", 2));
  worker_->Signal(SIGTERM);
  ASSERT_TRUE(coordinator_.WaitFor([&](const auto&) {
    return ReadFile(dir_ / "worker.log", 1 << 20).value_or("").find("stopping: ranks checkpoint") != std::string::npos;
  }));
  worker_->Signal(SIGTERM);
  EXPECT_EQ(worker_->Wait(), 0);
  EXPECT_THAT(Trainers(), IsEmpty());
}

TEST_F(AgentTest, RefusesASecondWorkerOnTheSameDirectory) {
  StartWorker();
  Process second(WorkerCommand(), dir_ / "second.log");
  EXPECT_EQ(second.Wait(), 1);
  EXPECT_THAT(ReadFile(dir_ / "second.log", 1 << 20).value(), HasSubstr("is in use by another p2-worker"));
}

TEST_F(AgentTest, RefusesADamagedSpoolAndSaysWhatToDo) {
  StartWorker();
  Run("job-a", 1, "*:done=20");
  AwaitEnd("job-a", 1);
  worker_->Signal(SIGKILL);
  worker_->Wait();
  for (const auto& entry : std::filesystem::directory_iterator(dir_ / "state/spool")) {
    if (entry.path().extension() != ".spool") continue;
    const std::string bytes = ReadFile(entry.path(), 1 << 24).value();
    ASSERT_TRUE(ReplaceFile(entry.path(), absl::StrCat(bytes.substr(0, 12), "X", bytes.substr(13)), 0600).ok());
  }
  Process worker(WorkerCommand(), dir_ / "error.log");
  EXPECT_EQ(worker.Wait(), 1);
  EXPECT_THAT(ReadFile(dir_ / "error.log", 1 << 20).value(), HasSubstr("away to start without its records"));
}

}  // namespace
}  // namespace p2::agent
