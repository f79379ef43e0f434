// How attempts end: classes of exit codes, restarts, backoff, budget.
#include <set>

#include "server/scheduler/decisions.h"
#include "tests/server/scheduler/cluster.h"

namespace p2::scheduler {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class StepFailuresTest : public testing::Test {
 protected:
  void SetUp() override {
    cluster_.Connect("w0", Cluster::Slots("cpu", 2));
    cluster_.Submit("job-a");
    cluster_.Run("job-a");
  }
  const JobRecord& JobA() { return cluster_.Job("job-a"); }
  // Waits out the backoff and runs again.
  void RunAgain() {
    for (int i = 0; JobA().state == JobState::kQueued && i < 1000; ++i) cluster_.Pass(absl::Seconds(1), {"w0"});
    cluster_.Run("job-a");
  }

  Cluster cluster_;
};

TEST_F(StepFailuresTest, SucceedsWithAFinalReportAndCodeZero) {
  cluster_.Report("w0", "job-a", TrainerFinished{TrainerFinished::Outcome::kDone, 0, 1000, ""});
  EXPECT_EQ(JobA().state, JobState::kRunning);
  cluster_.EndRank("w0", "job-a", 0);
  EXPECT_EQ(JobA().state, JobState::kSucceeded);
  EXPECT_EQ(JobA().reason, StatusReason::kCompleted);
  EXPECT_EQ(JobA().end_time, cluster_.now.wall);
}

TEST_F(StepFailuresTest, CodeZeroWithoutAFinalReportIsNoSuccess) {
  cluster_.EndRank("w0", "job-a", 0);
  EXPECT_EQ(JobA().state, JobState::kQueued);
  EXPECT_EQ(JobA().attempts.back()->reason, StatusReason::kRankDied);
  EXPECT_THAT(JobA().message, HasSubstr("never reported that the run is done"));
}

TEST_F(StepFailuresTest, AFinalReportWithAnotherCodeIsNoSuccess) {
  cluster_.Report("w0", "job-a", TrainerFinished{TrainerFinished::Outcome::kDone, 0, 1000, ""});
  cluster_.EndRank("w0", "job-a", 139);
  EXPECT_EQ(JobA().state, JobState::kQueued);
}

struct ExitCase {
  int code;
  StatusReason reason;
  bool fatal, counted;
};

class ExitCodeTest : public StepFailuresTest, public testing::WithParamInterface<ExitCase> {};

TEST_P(ExitCodeTest, HasItsClass) {
  const ExitCase& it = GetParam();
  cluster_.EndRank("w0", "job-a", it.code, "last words");
  EXPECT_EQ(JobA().attempts.back()->reason, it.reason);
  EXPECT_EQ(JobA().state, it.fatal ? JobState::kFailed : JobState::kQueued);
  EXPECT_EQ(JobA().restarts_used, it.counted ? 1 : 0);
  if (it.fatal) {
    EXPECT_EQ(JobA().reason, it.reason);
    EXPECT_THAT(JobA().message, HasSubstr("last words"));
  }
}

INSTANTIATE_TEST_SUITE_P(All, ExitCodeTest,
                         testing::Values(ExitCase{50, StatusReason::kCommunication, false, false},
                                         ExitCase{51, StatusReason::kDeviceError, false, false},
                                         ExitCase{52, StatusReason::kOutOfMemory, false, true},
                                         ExitCase{53, StatusReason::kNumeric, true, false},
                                         ExitCase{54, StatusReason::kData, false, true},
                                         ExitCase{55, StatusReason::kStorage, false, true},
                                         ExitCase{64, StatusReason::kBadSpec, true, false},
                                         ExitCase{1, StatusReason::kRankDied, false, true},
                                         ExitCase{137, StatusReason::kRankDied, false, true},
                                         ExitCase{40, StatusReason::kWorkerStopped, false, false}));

TEST_F(StepFailuresTest, AFrozenRankCostsNoBudget) {
  cluster_.Report("w0", "job-a", AttemptEnded{{{0, 137, /*frozen=*/true, /*killed=*/true}}, false, ""});
  EXPECT_EQ(JobA().attempts.back()->reason, StatusReason::kRankFrozen);
  EXPECT_EQ(JobA().restarts_used, 0);
}

TEST_F(StepFailuresTest, TheUsersErrorWinsOverTheBrokenConnectionsThatItCauses) {
  cluster_.Report("w0", "job-a", AttemptEnded{{{0, 50}, {1, 52}, {2, 50}}, false, ""});
  EXPECT_EQ(JobA().attempts.back()->reason, StatusReason::kOutOfMemory);
  EXPECT_EQ(JobA().attempts.back()->exit_code, 52);
}

TEST_F(StepFailuresTest, RanksThatTheirAgentKilledAreNoCause) {
  cluster_.Report("w0", "job-a", AttemptEnded{{{0, 50}, {1, 137, false, /*killed=*/true}}, false, ""});
  EXPECT_EQ(JobA().attempts.back()->reason, StatusReason::kCommunication);
}

TEST_F(StepFailuresTest, AStoppedWorkerExcusesItsRanks) {
  cluster_.Report("w0", "job-a", AttemptEnded{{{0, 137}}, /*worker_stopped=*/true, ""});
  EXPECT_EQ(JobA().attempts.back()->reason, StatusReason::kWorkerStopped);
  EXPECT_EQ(JobA().restarts_used, 0);
}

TEST_F(StepFailuresTest, AFencedGangStartsAgainForFree) {
  cluster_.Report("w0", "job-a", AttemptEnded{{{0, 40}}, /*worker_stopped=*/true, "", /*fenced=*/true});
  EXPECT_EQ(JobA().attempts.back()->reason, StatusReason::kWorkerStopped);
  EXPECT_THAT(JobA().attempts.back()->message, HasSubstr("deadlines.fence_after"));
  EXPECT_EQ(JobA().restarts_used, 0);
}

TEST_F(StepFailuresTest, WhatTheTrainerSaidAboutItsFailureIsTheMessage) {
  cluster_.Report("w0", "job-a", TrainerFinished{TrainerFinished::Outcome::kFailed, 53, 10, "loss is not finite"});
  cluster_.EndRank("w0", "job-a", 53);
  EXPECT_THAT(JobA().message, HasSubstr("loss is not finite"));
}

TEST_F(StepFailuresTest, TheBudgetIsSpentWithoutProgress) {
  for (int i = 0; i < 3; ++i) {
    cluster_.EndRank("w0", "job-a", 139);
    ASSERT_EQ(JobA().state, JobState::kQueued);
    RunAgain();
  }
  cluster_.EndRank("w0", "job-a", 139, "Segmentation fault in step 7");
  EXPECT_EQ(JobA().state, JobState::kFailed);
  EXPECT_EQ(JobA().reason, StatusReason::kRestartBudgetSpent);
  EXPECT_THAT(JobA().message, HasSubstr("RANK_DIED: rank 0 on w0 died by signal 11"));
  EXPECT_THAT(JobA().message, HasSubstr("Segmentation fault in step 7"));
}

TEST_F(StepFailuresTest, AnEndSaysHowAndWhere) {
  auto last_end = [&] {
    std::string text;
    for (const EventRecord& event : cluster_.events) {
      if (event.reason == "ATTEMPT_ENDED") text = event.message;
    }
    return text;
  };
  cluster_.Commit("w0", "job-a", 300);
  cluster_.EndRank("w0", "job-a", 139);
  EXPECT_EQ(last_end(), "attempt 1: failed at 300 images, RANK_DIED: rank 0 on w0 died by signal 11");
  RunAgain();
  cluster_.Must(PauseJob{{"user:ann"}, "job-a", ""});
  cluster_.EndRank("w0", "job-a", 40);
  EXPECT_EQ(last_end(), "attempt 2: stopped at 300 images");
  cluster_.Must(ResumeJob{{"user:ann"}, "job-a"});
  cluster_.Run("job-a");
  cluster_.Report("w0", "job-a", TrainerFinished{TrainerFinished::Outcome::kDone, 0, 1000, ""});
  cluster_.EndRank("w0", "job-a", 0);
  EXPECT_EQ(last_end(), "attempt 3: succeeded at 1000 images");
}

TEST_F(StepFailuresTest, TheLogInAnAttemptBeginsWithAWholeLine) {
  std::string log;
  for (int i = 0; i < 300; ++i) absl::StrAppend(&log, "line ", i, "\n");
  cluster_.EndRank("w0", "job-a", 139, log);
  const std::string& message = JobA().attempts.back()->message;
  const std::string tail = message.substr(message.find('\n') + 1);
  EXPECT_EQ(tail.substr(0, 5), "line ");
  EXPECT_GT(tail.size(), 1000u);
  EXPECT_LE(tail.size(), 1024u);
  EXPECT_EQ(tail, log.substr(log.size() - tail.size()));
  EXPECT_EQ(log[log.size() - tail.size() - 1], '\n');
}

TEST_F(StepFailuresTest, ALiveAttemptSaysHowFarItIs) {
  cluster_.Must(
      Heartbeat{"w0", cluster_.Worker("w0").session, {{"job-a", 1, 640, 10, "step"}}, {{"data", "root-data"}}});
  EXPECT_EQ(JobA().attempts.back()->end_images_seen, 640);
  cluster_.Report("w0", "job-a", MetricsReported{1, 704, 11, cluster_.now.wall, {{"loss", 1.0}}});
  EXPECT_EQ(JobA().attempts.back()->end_images_seen, 704);
}

class SuspectTest : public StepFailuresTest, public testing::WithParamInterface<StatusReason> {
 protected:
  void EndOnce() {
    switch (GetParam()) {
      case StatusReason::kCommunication:
        return cluster_.EndRank("w0", "job-a", 50, "last words");
      case StatusReason::kDeviceError:
        return cluster_.EndRank("w0", "job-a", 51, "last words");
      default:
        cluster_.Report("w0", "job-a", AttemptEnded{{{0, 137, /*frozen=*/true, true}}, false, "last words"});
    }
  }
};

TEST_P(SuspectTest, IsFreeThreeTimesThenSpendsTheBudget) {
  for (int failure = 1; failure <= 6; ++failure) {
    EndOnce();
    ASSERT_EQ(JobA().state, JobState::kQueued) << failure;
    EXPECT_EQ(JobA().attempts.back()->reason, GetParam());
    EXPECT_EQ(JobA().restarts_used, std::max(0, failure - 3)) << failure;
    RunAgain();
  }
  EndOnce();
  EXPECT_EQ(JobA().state, JobState::kFailed);
  EXPECT_EQ(JobA().reason, StatusReason::kRestartBudgetSpent);
  EXPECT_THAT(JobA().message, HasSubstr(std::string(ReasonName(GetParam()))));
  EXPECT_THAT(JobA().message, HasSubstr("last words"));
}

TEST_P(SuspectTest, ANewerCheckpointMakesItFreeAgain) {
  for (int failure = 1; failure <= 20; ++failure) {
    EndOnce();
    ASSERT_EQ(JobA().state, JobState::kQueued) << failure;
    EXPECT_EQ(JobA().restarts_used, 0) << failure;
    RunAgain();
    if (failure % 3 == 0) cluster_.Commit("w0", "job-a", 10 * failure);
  }
}

INSTANTIATE_TEST_SUITE_P(All, SuspectTest,
                         testing::Values(StatusReason::kCommunication, StatusReason::kDeviceError,
                                         StatusReason::kRankFrozen));

TEST_F(StepFailuresTest, AWorkerThatStopsIsFreeForEver) {
  for (int failure = 1; failure <= 20; ++failure) {
    cluster_.Report("w0", "job-a", AttemptEnded{{{0, 50}}, /*worker_stopped=*/true, ""});
    ASSERT_EQ(JobA().state, JobState::kQueued) << failure;
    EXPECT_EQ(JobA().restarts_used, 0) << failure;
    RunAgain();
  }
}

TEST_F(StepFailuresTest, ANewerCheckpointGivesTheBudgetBack) {
  cluster_.EndRank("w0", "job-a", 139);
  RunAgain();
  EXPECT_EQ(JobA().restarts_used, 1);
  cluster_.Commit("w0", "job-a", 100);
  EXPECT_EQ(JobA().restarts_used, 0);
}

TEST_F(StepFailuresTest, TheWaitDoublesUpToItsMaximumWithJitter) {
  std::vector<double> waits;
  for (int i = 0; i < 11; ++i) {
    cluster_.EndRank("w0", "job-a", 40);  // WORKER_STOPPED: free for ever.
    waits.push_back(absl::ToDoubleSeconds(JobA().backoff));
    RunAgain();
  }
  for (int i = 0; i < 11; ++i) {
    const double base = std::min(300.0, static_cast<double>(1 << i));
    EXPECT_GE(waits[i], 0.8 * base - 0.001) << i;
    EXPECT_LE(waits[i], 1.2 * base) << i;
  }
}

TEST_F(StepFailuresTest, AJobInBackoffSaysWhyAndUntilWhen) {
  cluster_.EndRank("w0", "job-a", 52);
  EXPECT_EQ(JobA().reason, StatusReason::kBackoff);
  EXPECT_THAT(JobA().message, HasSubstr("OUT_OF_MEMORY, restart 1 of 3"));
  EXPECT_EQ(JobA().not_before, cluster_.now.wall + JobA().backoff);
}

TEST(StepGangFailuresTest, OneRanksDeathEndsTheWholeGangBeforeTheJobIsQueued) {
  Cluster cluster;
  cluster.Connect("w0", Cluster::Slots("cpu", 1));
  cluster.Connect("w1", Cluster::Slots("cpu", 1));
  cluster.Submit("job-a", 2);
  cluster.Run("job-a");
  cluster.Report("w1", "job-a", AttemptEnded{{{1, 139}}, false, "boom"}, 1);
  EXPECT_THAT(cluster.ActionsOf<StopAttempt>(), Contains(StopAttempt{"w0", "job-a", 1, StopMode::kKill}));
  EXPECT_EQ(cluster.Job("job-a").state, JobState::kRunning);
  cluster.Report("w0", "job-a", AttemptEnded{{{0, 137}}, false, ""});
  EXPECT_EQ(cluster.Job("job-a").state, JobState::kQueued);
  EXPECT_THAT(cluster.Job("job-a").attempts.back()->message, HasSubstr("rank 1 on w1 died by signal 11"));
  EXPECT_THAT(cluster.Job("job-a").attempts.back()->message, HasSubstr("boom"));
}

TEST(StepGangFailuresTest, RanksThatCheckpointOnTheirOwnAreNotKilledInTheMiddle) {
  Cluster cluster;
  cluster.Connect("w0", Cluster::Slots("cpu", 1));
  cluster.Connect("w1", Cluster::Slots("cpu", 1));
  cluster.Submit("job-a", 2);
  cluster.Run("job-a");
  cluster.Report("w1", "job-a", AttemptEnded{{{1, 40}}, /*worker_stopped=*/true, ""}, 1);
  EXPECT_THAT(cluster.ActionsOf<StopAttempt>(), ElementsAre(StopAttempt{"w0", "job-a", 1, StopMode::kCheckpoint}));
}

// A node is gone, and there are no devices elsewhere: the job waits for it. Two minutes later the ranks on the other
// node are killed, for no step ends without the lost ones. That is not the other node's fault: two such jobs would get
// it cordoned.
TEST_F(StepFailuresTest, RanksThatHangForALostNodeDoNotCountAgainstTheirOwn) {
  Cluster cluster;
  cluster.Connect("w0", Cluster::Slots("cpu", 2));
  cluster.Connect("w1", Cluster::Slots("cpu", 2));
  cluster.Submit("job-a", 4);
  cluster.Run("job-a");
  cluster.Pass(absl::Seconds(120), {"w0"});
  ASSERT_EQ(cluster.Worker("w1").state, WorkerState::kLost);
  ASSERT_EQ(cluster.Job("job-a").reason, StatusReason::kWorkerLost);
  cluster.Report("w0", "job-a", AttemptEnded{{{0, 137, /*frozen=*/true}, {1, 137, false, /*killed=*/true}}, false, ""});
  ASSERT_EQ(cluster.Job("job-a").state, JobState::kQueued);
  EXPECT_EQ(cluster.Job("job-a").attempts.back()->reason, StatusReason::kWorkerLost);
  EXPECT_THAT(cluster.Worker("w0").failed_jobs, testing::IsEmpty());
}

// A device that stays broken: every rank on it ends with 51. With another node idle, one job alone should get there
// before it is given up.
TEST_F(StepFailuresTest, AJobThatADeviceBreaksAgainAndAgainIsTriedElsewhere) {
  Cluster cluster;
  cluster.Connect("w0", Cluster::Slots("cpu", 2));
  cluster.Connect("w1", Cluster::Slots("cpu", 2));
  cluster.Submit("job-a", 2);
  std::set<std::string> tried;
  while (!IsTerminal(cluster.Job("job-a").state) && tried.count("w1") == 0) {
    if (cluster.Job("job-a").state == JobState::kQueued) {
      cluster.Pass(absl::Seconds(1), {"w0", "w1"});
      continue;
    }
    cluster.Run("job-a");
    const std::string worker = cluster.WorkersOf("job-a").front();
    tried.insert(worker);
    if (worker == "w1") break;
    cluster.Report(worker, "job-a", AttemptEnded{{{0, 51}, {1, 137, false, true}}, false, ""});
  }
  EXPECT_EQ(tried.count("w1"), 1u) << "it was only ever tried on w0";
}

TEST_F(StepFailuresTest, AFailureThatTheTrainerNamesItselfCountsAgainstItsWorker) {
  Cluster cluster;
  cluster.Connect("w0", Cluster::Slots("cpu", 1));
  cluster.Submit("job-a", 1);
  cluster.Run("job-a");
  cluster.Report("w0", "job-a", TrainerFinished{TrainerFinished::Outcome::kFailed, 51, 0, "CUDA error 79"});
  cluster.Report("w0", "job-a", AttemptEnded{{{0, 51}}, false, ""});
  EXPECT_EQ(cluster.Job("job-a").attempts.back()->reason, StatusReason::kDeviceError);
  EXPECT_THAT(cluster.Worker("w0").failed_jobs, ElementsAre("job-a"));
}

}  // namespace
}  // namespace p2::scheduler
