// Two-phase start of a gang, and who gets devices.
#include "tests/server/scheduler/cluster.h"

namespace p2::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(StepGangTest, WritesTheEpochBeforeItAsksAnyWorker) {
  Cluster cluster;
  cluster.Connect("w0", Cluster::Slots("cpu", 2));
  cluster.Submit("job-a", 2);
  EXPECT_EQ(cluster.Job("job-a").epoch, 1);
  const auto prepares = cluster.ActionsOf<Prepare>();
  ASSERT_THAT(prepares, SizeIs(1));
  EXPECT_EQ(prepares[0].epoch, 1);
  EXPECT_EQ(prepares[0].world_size, 2);
  EXPECT_THAT(prepares[0].ranks, ElementsAre(PlacedRank{0, "cpu:0", 0}, PlacedRank{1, "cpu:1", 1}));
}

class TwoWorkersTest : public testing::Test {
 protected:
  void SetUp() override {
    cluster_.Connect("w0", Cluster::Slots("cpu", 1));
    cluster_.Connect("w1", Cluster::Slots("cpu", 1));
    cluster_.Submit("job-a", 2);
  }
  Cluster cluster_;
};

TEST_F(TwoWorkersTest, StartsNothingBeforeEveryWorkerIsPrepared) {
  cluster_.Must(PrepareReply{"w0", "job-a", 1, true, "", "10.0.0.1", 7000});
  EXPECT_THAT(cluster_.actions, IsEmpty());
  cluster_.Must(PrepareReply{"w1", "job-a", 1, true});
  const auto starts = cluster_.ActionsOf<StartGang>();
  ASSERT_THAT(starts, SizeIs(2));
  EXPECT_EQ(starts[1].worker, "w1");
  EXPECT_EQ(starts[1].master_address, "10.0.0.1");
  EXPECT_EQ(starts[1].master_port, 7000);
}

TEST_F(TwoWorkersTest, RunsOnceAllRanksHaveAProcess) {
  cluster_.PrepareAll("job-a");
  cluster_.Report("w1", "job-a", AttemptStarted{});
  EXPECT_EQ(cluster_.Job("job-a").state, JobState::kStarting);
  cluster_.Report("w0", "job-a", AttemptStarted{});
  EXPECT_EQ(cluster_.Job("job-a").state, JobState::kRunning);
}

TEST_F(TwoWorkersTest, ARefusalStopsTheGangAndNamesTheWorker) {
  cluster_.Must(PrepareReply{"w0", "job-a", 1, true, "", "10.0.0.1", 7000});
  cluster_.Must(PrepareReply{"w1", "job-a", 1, false, "dataset fingerprint differs"});
  EXPECT_THAT(cluster_.ActionsOf<StopAttempt>(), ElementsAre(StopAttempt{"w0", "job-a", 1, StopMode::kKill},
                                                             StopAttempt{"w1", "job-a", 1, StopMode::kKill}));
  const JobRecord& job = cluster_.Job("job-a");
  EXPECT_EQ(job.state, JobState::kQueued);
  EXPECT_EQ(job.reason, StatusReason::kGangNotFormed);
  EXPECT_THAT(job.message, HasSubstr("w1: dataset fingerprint differs"));
  EXPECT_EQ(job.restarts_used, 0);
  EXPECT_GT(job.not_before, cluster_.now.wall);
  cluster_.Pass(absl::Seconds(3), {"w0", "w1"});
  EXPECT_EQ(cluster_.Job("job-a").state, JobState::kStarting);
  EXPECT_EQ(cluster_.Job("job-a").epoch, 2);
}

TEST_F(TwoWorkersTest, AGangThatTakesTooLongIsNotFormed) {
  cluster_.Must(PrepareReply{"w0", "job-a", 1, true, "", "10.0.0.1", 7000});
  cluster_.Pass(cluster_.options.gang_timeout, {"w0", "w1"});
  EXPECT_EQ(cluster_.Job("job-a").state, JobState::kQueued);
  EXPECT_THAT(cluster_.Job("job-a").message, HasSubstr("worker w1: its ranks had not started"));
}

TEST_F(TwoWorkersTest, AnAnswerAtAStaleEpochIsRefused) {
  cluster_.Must(PrepareReply{"w1", "job-a", 1, false, "busy"});
  cluster_.Must(PrepareReply{"w0", "job-a", 1, true, "", "10.0.0.1", 7000});
  EXPECT_THAT(cluster_.refused, HasSubstr("stale epoch"));
}

TEST_F(TwoWorkersTest, ALostWorkerEndsTheFormingOfItsGang) {
  cluster_.options.gang_timeout = absl::Seconds(60);
  cluster_.Pass(absl::Seconds(16), {"w0"});
  EXPECT_EQ(cluster_.Worker("w1").state, WorkerState::kLost);
  EXPECT_EQ(cluster_.Job("job-a").state, JobState::kQueued);
}

TEST(StepQueueTest, EveryQueuedJobSaysWhyItWaits) {
  Cluster cluster;
  cluster.Submit("job-a");
  EXPECT_EQ(cluster.Job("job-a").reason, StatusReason::kNotEnoughDevices);
  EXPECT_THAT(cluster.Job("job-a").message, HasSubstr("needs 1 cpu device, more than all ready workers have"));

  WorkerConnected blind = cluster.Hello("w0", Cluster::Slots("cpu", 1));
  blind.hello.roots.clear();
  cluster.Must(blind);
  EXPECT_EQ(cluster.Job("job-a").reason, StatusReason::kRootNotVisible);
  EXPECT_THAT(cluster.Job("job-a").message, HasSubstr("needs 1 cpu device on workers that see root data"));

  cluster.Must(Heartbeat{"w0", 1, {}, {{"data", "root-data"}}});
  EXPECT_EQ(cluster.Job("job-a").state, JobState::kStarting);
  cluster.Submit("job-b");
  EXPECT_EQ(cluster.Job("job-b").reason, StatusReason::kWaitingForDevices);
  EXPECT_THAT(cluster.Job("job-b").message, HasSubstr("too few of those that suit are free"));
}

TEST(StepQueueTest, SmallJobsDoNotStarveABigOneBeforeThem) {
  Cluster cluster;
  cluster.Connect("w0", Cluster::Slots("cpu", 2));
  cluster.Submit("small");
  cluster.Submit("big", 2);
  CreateJob late = Cluster::Submission("late");
  late.needs.preemptible = false;  // Else it would run until `big` can start.
  cluster.Must(late);
  EXPECT_EQ(cluster.Job("late").state, JobState::kQueued);
  cluster.Must(KillJob{{"user:ann"}, "small", ""});
  EXPECT_EQ(cluster.Job("big").state, JobState::kStarting);
}

TEST(StepQueueTest, AJobThatCanNeverRunKeepsNobodyWaiting) {
  Cluster cluster;
  cluster.Connect("w0", Cluster::Slots("cpu", 2));
  cluster.Submit("huge", 64);
  cluster.Submit("small");
  EXPECT_EQ(cluster.Job("small").state, JobState::kStarting);
}

TEST(StepQueueTest, HigherPriorityGoesFirst) {
  Cluster cluster;
  CreateJob high = Cluster::Submission("high");
  high.priority = 5;
  cluster.Submit("low");
  cluster.Must(high);
  cluster.Connect("w0", Cluster::Slots("cpu", 1));
  EXPECT_EQ(cluster.Job("high").state, JobState::kStarting);
  EXPECT_EQ(cluster.Job("low").state, JobState::kQueued);
}

TEST(BitwiseTest, LaterAttemptsRunOnlyWhereTheNumbersComeOutTheSame) {
  Cluster cluster;
  const auto hello = [&](const std::string& worker, const std::string& device, const std::string& version) {
    std::vector<SlotRecord> slots = Cluster::Slots("cpu", 1);
    slots[0].device_name = device;
    WorkerConnected event = cluster.Hello(worker, slots);
    event.hello.version = version;
    cluster.Must(event);
  };
  hello("w0", "Xeon", "1.0");
  CreateJob create = Cluster::Submission("job-a");
  create.needs.bitwise = true;
  cluster.Must(create);
  cluster.Run("job-a");
  cluster.Report("w0", "job-a", TrainerStarted{0, "", {}});
  cluster.Must(CordonWorker{{"user:ann"}, "w0", "", /*drain=*/true});
  hello("w1", "EPYC", "1.0");
  hello("w2", "Xeon", "1.1");
  cluster.EndRank("w0", "job-a", 40);
  EXPECT_EQ(cluster.Job("job-a").state, JobState::kQueued);
  EXPECT_EQ(cluster.Job("job-a").reason, StatusReason::kNotEnoughDevices);
  EXPECT_THAT(cluster.Job("job-a").message, HasSubstr("(Xeon, p2 1.0: training.bitwise is required)"));
  hello("w3", "Xeon", "1.0");
  EXPECT_THAT(cluster.WorkersOf("job-a"), ElementsAre("w3"));
  // Another job takes what it gets.
  cluster.Submit("job-b");
  EXPECT_EQ(cluster.Job("job-b").state, JobState::kStarting);
}

}  // namespace
}  // namespace p2::scheduler
