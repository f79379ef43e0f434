// Silence, loss, reconnects, restarts of p2d and of workers.
#include "tests/server/scheduler/cluster.h"

namespace p2::scheduler {
namespace {

TEST(StepWorkersStallTest, WhileP2dDidNotListenNobodyIsSilent) {
  Cluster cluster;
  cluster.Connect("w0", Cluster::Slots("cpu", 1));
  cluster.Wait(absl::Seconds(60));
  cluster.Must(Tick{absl::Seconds(59)});
  EXPECT_EQ(cluster.Worker("w0").state, WorkerState::kReady);
  cluster.Wait(absl::Seconds(16));
  cluster.Must(Tick{});
  EXPECT_EQ(cluster.Worker("w0").state, WorkerState::kLost);
}

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class StepWorkersTest : public testing::Test {
 protected:
  void SetUp() override {
    cluster_.Connect("w0", Cluster::Slots("cpu", 1));
    cluster_.Submit("job-a");
    cluster_.Run("job-a");
  }
  const JobRecord& JobA() { return cluster_.Job("job-a"); }
  WorkerConnected Back(const std::string& instance, std::vector<RunningAttempt> running) {
    return cluster_.Hello("w0", Cluster::Slots("cpu", 1), instance, std::move(running));
  }

  Cluster cluster_;
};

TEST_F(StepWorkersTest, ASilentWorkerIsSuspectAndThenLost) {
  cluster_.Pass(absl::Seconds(11));
  EXPECT_EQ(cluster_.Worker("w0").state, WorkerState::kSuspect);
  EXPECT_EQ(JobA().state, JobState::kRunning);
  cluster_.Pass(absl::Seconds(5));
  EXPECT_EQ(cluster_.Worker("w0").state, WorkerState::kLost);
}

TEST_F(StepWorkersTest, AJobWithNowhereElseToGoWaitsForItsLostWorker) {
  cluster_.Pass(absl::Seconds(20));
  EXPECT_EQ(JobA().state, JobState::kRunning);
  EXPECT_EQ(JobA().reason, StatusReason::kWorkerLost);
  cluster_.Must(Back("i1", {{"job-a", 1, false, 420}}));
  EXPECT_EQ(JobA().state, JobState::kRunning);
  EXPECT_EQ(JobA().reason, StatusReason::kUnspecified);
  EXPECT_EQ(JobA().progress.images_seen, 420);
  EXPECT_THAT(cluster_.ActionsOf<StopAttempt>(), IsEmpty());
}

TEST_F(StepWorkersTest, AJobOfALostWorkerGoesElsewhereAndItsSlotsStayHeld) {
  cluster_.Connect("w1", Cluster::Slots("cpu", 1));
  cluster_.Pass(absl::Seconds(20), {"w1"});
  EXPECT_EQ(JobA().state, JobState::kStarting);
  EXPECT_EQ(JobA().epoch, 2);
  EXPECT_EQ(JobA().attempts.front()->outcome, Outcome::kAbandoned);
  EXPECT_EQ(JobA().restarts_used, 0);
  EXPECT_THAT(cluster_.Worker("w0").orphans, ElementsAre(Orphan{"job-a", 1, {"cpu:0"}}));

  cluster_.Submit("job-b");
  cluster_.Must(Back("i1", {{"job-a", 1, false, 500}}));
  EXPECT_THAT(cluster_.ActionsOf<StopAttempt>(), ElementsAre(StopAttempt{"w0", "job-a", 1, StopMode::kKill}));
  EXPECT_EQ(cluster_.Job("job-b").state, JobState::kQueued);
  SpoolReport ended = cluster_.Record("w0", "job-a", AttemptEnded{{{0, 137}}, false, ""});
  ended.epoch = 1;
  cluster_.Must(ended);
  EXPECT_THAT(cluster_.Worker("w0").orphans, IsEmpty());
  EXPECT_EQ(cluster_.Job("job-b").state, JobState::kStarting);
}

TEST_F(StepWorkersTest, ARestartedWorkerWithoutTheAttemptEndsItForFree) {
  cluster_.Must(WorkerDisconnected{"w0", 1});
  cluster_.Must(Back("i2", {}));
  EXPECT_EQ(JobA().state, JobState::kQueued);
  EXPECT_EQ(JobA().attempts.back()->reason, StatusReason::kWorkerStopped);
  EXPECT_EQ(JobA().restarts_used, 0);
}

TEST_F(StepWorkersTest, WhatARestartedWorkerStillHasToTellIsTakenBeforeItsAttemptEnds) {
  cluster_.Must(WorkerDisconnected{"w0", 1});
  WorkerConnected hello = Back("i2", {});
  hello.hello.spool_last = cluster_.Worker("w0").spool_acked + 2;
  cluster_.Must(hello);
  EXPECT_EQ(JobA().state, JobState::kRunning);
  cluster_.Commit("w0", "job-a", 640);
  EXPECT_EQ(JobA().latest_checkpoint, "ckpt-640");
  cluster_.Report("w0", "job-a", AttemptEnded{{{0, 40}}, /*worker_stopped=*/true, ""});
  EXPECT_EQ(JobA().state, JobState::kQueued);
  EXPECT_EQ(JobA().progress.images_seen, 640);
}

TEST_F(StepWorkersTest, ACheckpointThatComesAfterTheAttemptHasEndedIsStillTakenAtItsEpoch) {
  cluster_.Must(WorkerDisconnected{"w0", 1});
  cluster_.Must(Back("i2", {}));
  ASSERT_EQ(JobA().state, JobState::kQueued);
  cluster_.Commit("w0", "job-a", 640);
  EXPECT_EQ(JobA().latest_checkpoint, "ckpt-640");
}

TEST_F(StepWorkersTest, AnUnknownAttemptOnAWorkerIsStoppedAndHoldsTheWorkerUntilItHasEnded) {
  cluster_.Must(cluster_.Hello("w1", Cluster::Slots("cpu", 2), "i1", {{"job-x", 7, false, 0}}));
  EXPECT_THAT(cluster_.ActionsOf<StopAttempt>(), ElementsAre(StopAttempt{"w1", "job-x", 7, StopMode::kKill}));
  cluster_.Submit("job-b");
  EXPECT_EQ(cluster_.Job("job-b").state, JobState::kQueued);
  SpoolReport ended = cluster_.Record("w1", "job-x", AttemptEnded{});
  ended.epoch = 7;
  cluster_.Must(ended);
  EXPECT_EQ(cluster_.Job("job-b").state, JobState::kStarting);
}

TEST_F(StepWorkersTest, AfterARestartOfP2dSilenceCountsFromItsReadiness) {
  cluster_.Wait(absl::Hours(2));
  cluster_.Must(Recovered{});
  cluster_.Must(Tick{});
  EXPECT_EQ(cluster_.Worker("w0").state, WorkerState::kReady);
  cluster_.Wait(absl::Seconds(3));
  cluster_.Must(Back("i1", {{"job-a", 1, false, 90000}}));
  EXPECT_EQ(JobA().state, JobState::kRunning);
  EXPECT_EQ(JobA().epoch, 1);
}

TEST_F(StepWorkersTest, ReconnectsIssueAgainWhatWasLost) {
  cluster_.Connect("w1", Cluster::Slots("cpu", 1));
  cluster_.Submit("job-b");
  ASSERT_THAT(cluster_.ActionsOf<Prepare>(), SizeIs(1));
  cluster_.Must(Recovered{});
  cluster_.Must(cluster_.Hello("w1", Cluster::Slots("cpu", 1)));
  EXPECT_THAT(cluster_.ActionsOf<Prepare>(), SizeIs(1));
  cluster_.PrepareAll("job-b");
  ASSERT_THAT(cluster_.ActionsOf<StartGang>(), SizeIs(1));
  cluster_.Must(WorkerDisconnected{"w1", cluster_.Worker("w1").session});
  cluster_.Must(cluster_.Hello("w1", Cluster::Slots("cpu", 1), "i1", {{"job-b", 1, /*prepared=*/true, 0}}));
  EXPECT_THAT(cluster_.ActionsOf<StartGang>(), SizeIs(1));
}

TEST_F(StepWorkersTest, AStopIsSaidAgainToAWorkerThatWasAway) {
  cluster_.Must(WorkerDisconnected{"w0", 1});
  cluster_.Must(StopJob{{"user:ann"}, "job-a", ""});
  cluster_.Must(Back("i1", {{"job-a", 1, false, 10}}));
  EXPECT_THAT(cluster_.ActionsOf<StopAttempt>(), Contains(StopAttempt{"w0", "job-a", 1, StopMode::kCheckpoint}));
}

TEST_F(StepWorkersTest, AKillOfAJobOnALostWorkerDoesNotWaitForIt) {
  cluster_.Pass(absl::Seconds(20));
  cluster_.Must(KillJob{{"user:ann"}, "job-a", ""});
  EXPECT_EQ(JobA().state, JobState::kCancelled);
  EXPECT_THAT(cluster_.Worker("w0").orphans, SizeIs(1));
}

TEST_F(StepWorkersTest, TwoFreshWorkersOfOneNameAreRefused) {
  const absl::Status second = cluster_.Do(Back("another", {}));
  EXPECT_TRUE(absl::IsAlreadyExists(second));
  EXPECT_THAT(std::string(second.message()), HasSubstr("give this one another name"));
  cluster_.Wait(absl::Seconds(11));
  EXPECT_TRUE(cluster_.Do(Back("another", {})).ok());
}

TEST_F(StepWorkersTest, AClockThatJumpedWhileP2dWasAwayProlongsNoBackoff) {
  cluster_.EndRank("w0", "job-a", 50);
  ASSERT_EQ(JobA().state, JobState::kQueued);
  cluster_.now.wall -= absl::Hours(24);
  cluster_.Must(Recovered{});
  cluster_.Must(Back("i1", {}));
  cluster_.Pass(absl::Seconds(2), {"w0"});
  EXPECT_EQ(JobA().state, JobState::kStarting);
}

// --- Faults of devices. ---
class DeviceFaultTest : public testing::Test {
 protected:
  DeviceFaultTest() { cluster_.Connect("w0", Cluster::Slots("cuda", 4)); }
  void Beat(std::vector<DeviceFault> faults) {
    const WorkerRecord& worker = cluster_.Worker("w0");
    cluster_.Must(Heartbeat{"w0", worker.session, {}, worker.roots, std::move(faults)});
  }
  bool WroteSomething() const { return std::any_of(cluster_.mutations.begin(), cluster_.mutations.end(), IsDurable); }

  Cluster cluster_;
};

TEST_F(DeviceFaultTest, AFaultCordonsTheNodeAndSaysWhichAndWhere) {
  Beat({{"cuda:3", 79}});
  EXPECT_TRUE(cluster_.Worker("w0").cordoned);
  EXPECT_THAT(cluster_.Worker("w0").cordon_reason,
              HasSubstr("cordoned by p2d: XID 79 on cuda:3 (GPU has fallen off the bus); look at the node"));
  EXPECT_THAT(cluster_.EventReasons(), ElementsAre("WORKER_READY", "DEVICE_FAULT", "WORKER_CORDONED"));
  EXPECT_TRUE(WroteSomething());
  cluster_.Submit("job-a");
  EXPECT_EQ(cluster_.Job("job-a").state, JobState::kQueued);
}

TEST_F(DeviceFaultTest, WhatRunsThereGoesOn) {
  CreateJob create = Cluster::Submission("job-a");
  create.needs.kind = "cuda";
  cluster_.Must(std::move(create));
  cluster_.Run("job-a");
  Beat({{"cuda:0", 48}});
  EXPECT_TRUE(cluster_.Worker("w0").cordoned);
  EXPECT_EQ(cluster_.Job("job-a").state, JobState::kRunning);
}

TEST_F(DeviceFaultTest, WhatAProgramDoesToItselfDoesNotCountAgainstTheNode) {
  Beat({{"cuda:0", 13}, {"cuda:0", 31}, {"cuda:1", 43}, {"cuda:1", 45}, {"cuda:2", 68}, {"cuda:3", 109}});
  EXPECT_FALSE(cluster_.Worker("w0").cordoned);
  EXPECT_THAT(cluster_.Worker("w0").device_faults, IsEmpty());
  Beat({{"cuda:7", 79}});  // No slot of this worker.
  EXPECT_FALSE(cluster_.Worker("w0").cordoned);
}

TEST_F(DeviceFaultTest, AfterAnUncordonOnlyWhatHappensSinceCordonsAgain) {
  Beat({{"cuda:3", 79}});
  cluster_.Must(UncordonWorker{{"user:root"}, "w0"});
  Beat({{"cuda:3", 79}});
  EXPECT_FALSE(cluster_.Worker("w0").cordoned);
  EXPECT_FALSE(WroteSomething());
  Beat({{"cuda:3", 79}, {"cuda:2", 79}});
  EXPECT_TRUE(cluster_.Worker("w0").cordoned);
  EXPECT_THAT(cluster_.Worker("w0").cordon_reason, HasSubstr("XID 79 on cuda:2"));
  EXPECT_THAT(cluster_.Worker("w0").cordon_reason, ::testing::Not(HasSubstr("cuda:3")));
  cluster_.Must(UncordonWorker{{"user:root"}, "w0"});
  Beat({{"cuda:2", 79}, {"cuda:3", 79, 2}});
  EXPECT_TRUE(cluster_.Worker("w0").cordoned);
  EXPECT_THAT(cluster_.Worker("w0").cordon_reason,
              HasSubstr("XID 79 on cuda:3 (GPU has fallen off the bus; reported 2 times)"));
}

TEST_F(DeviceFaultTest, WhatIsReportedOverAndOverMakesOneEventAndIsForgivenAsAWhole) {
  for (int64_t count : {1, 2, 1000}) Beat({{"cuda:3", 79, count}});
  EXPECT_THAT(cluster_.EventReasons(), ElementsAre("WORKER_READY", "DEVICE_FAULT", "WORKER_CORDONED"));
  EXPECT_TRUE(WroteSomething()) << "the count outlives p2d";
  cluster_.Must(UncordonWorker{{"user:root"}, "w0"});
  Beat({{"cuda:3", 79, 1000}});
  EXPECT_FALSE(cluster_.Worker("w0").cordoned);
  Beat({{"cuda:3", 79, 1001}});
  EXPECT_TRUE(cluster_.Worker("w0").cordoned);
}

TEST_F(DeviceFaultTest, FaultsOfACordonedNodeAreToldAndItsReasonStays) {
  cluster_.Must(CordonWorker{{"user:root"}, "w0", "fan noise"});
  Beat({{"cuda:1", 64}});
  const std::vector<AppendEvent> events = cluster_.MutationsOf<AppendEvent>();
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].event.message, "XID 64 on cuda:1 (ECC page retirement or row remapping failed)");
  EXPECT_THAT(cluster_.Worker("w0").cordon_reason, HasSubstr("fan noise"));
}

TEST_F(DeviceFaultTest, AreThoseOfOneProcessOfTheWorker) {
  Beat({{"cuda:3", 79}});
  cluster_.Must(UncordonWorker{{"user:root"}, "w0"});
  cluster_.Must(cluster_.Hello("w0", Cluster::Slots("cuda", 4), "i1"));  // It connects again.
  Beat({{"cuda:3", 79}});
  EXPECT_FALSE(cluster_.Worker("w0").cordoned);
  cluster_.Wait(absl::Seconds(20));
  cluster_.Must(cluster_.Hello("w0", Cluster::Slots("cuda", 4), "i2"));  // It was started anew.
  EXPECT_THAT(cluster_.Worker("w0").device_faults, IsEmpty());
  Beat({{"cuda:3", 79}});
  EXPECT_TRUE(cluster_.Worker("w0").cordoned);
}

}  // namespace
}  // namespace p2::scheduler
