// When a scheduling pass is made: at once where somebody may start, and not where nobody can.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/scheduler/cluster.h"

namespace p2::scheduler {
namespace {

using ::testing::HasSubstr;

class PassTest : public testing::Test {
 protected:
  void Submit(const std::string& id, int devices, const std::string& owner = "ann", bool preemptible = false) {
    CreateJob create = Cluster::Submission(id, devices);
    create.owner = owner;
    create.project = "default";
    create.needs.preemptible = preemptible;
    cluster_.Must(create);
  }
  JobState StateOf(const std::string& id) { return cluster_.Job(id).state; }
  StatusReason ReasonOf(const std::string& id) { return cluster_.Job(id).reason; }
  // Whether the event made a pass look at the queue: each leaves a memo of its own.
  bool Passes(const Event& event) {
    const PassMemo* before = cluster_.state.pass_memo();
    cluster_.Must(event);
    return cluster_.state.pass_memo() != before;
  }
  // It succeeds on one worker.
  void Ends(const std::string& id) {
    const std::string worker = cluster_.WorkersOf(id).front();
    cluster_.Run(id);
    cluster_.Report(worker, id, TrainerFinished{TrainerFinished::Outcome::kDone, 0, 1000});
    cluster_.EndRank(worker, id, 0);
    ASSERT_EQ(StateOf(id), JobState::kSucceeded);
  }

  Cluster cluster_;
};

TEST_F(PassTest, NobodyIsLookedAtForAJobThatLeavesTheQueueWithNothingKeptForIt) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  Submit("running", 2);
  Submit("first", 2);
  Submit("second", 2);
  EXPECT_FALSE(Passes(KillJob{{"user:ann"}, "second", ""}));
  EXPECT_EQ(StateOf("second"), JobState::kCancelled);
}

TEST_F(PassTest, WhatWasKeptForAJobThatIsCancelledGoesToTheNextAtOnce) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 4));
  Submit("running", 2);
  Submit("big", 4);
  Submit("small", 2);
  ASSERT_EQ(StateOf("small"), JobState::kQueued) << "two devices are free, but kept for the one before";
  cluster_.Must(KillJob{{"user:ann"}, "big", ""});
  EXPECT_EQ(StateOf("small"), JobState::kStarting);
}

// An orphan holds a device: nobody knows until when, so nothing can be kept for the first in the queue.
TEST_F(PassTest, ThePlaceOfAJobForWhichNothingCouldBePlannedGoesToTheNext) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  Submit("lost", 2);
  cluster_.Run("lost");
  cluster_.Connect("w1", Cluster::Slots("cpu", 2));
  Submit("held", 2);
  cluster_.Pass(absl::Minutes(1), {"w1"});
  ASSERT_EQ(cluster_.Worker("w0").state, WorkerState::kLost);
  cluster_.Must(KillJob{{"user:ann"}, "lost", ""});
  cluster_.Must(cluster_.Hello("w0", Cluster::Slots("cpu", 2), "i1", {{.job = "lost", .epoch = 1}}));
  Submit("first", 4);
  ASSERT_EQ(ReasonOf("first"), StatusReason::kWaitingForDevices);
  Submit("second", 2);
  ASSERT_TRUE(cluster_.state.reservations().empty());
  cluster_.Must(KillJob{{"user:ann"}, "first", ""});
  EXPECT_TRUE(cluster_.state.reservations().contains("second"));
}

TEST_F(PassTest, DevicesThatComeAreLookedAtOnceTheyHelpSomebody) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  Submit("running", 2);
  Submit("waits", 4);
  ASSERT_EQ(ReasonOf("waits"), StatusReason::kNotEnoughDevices);
  EXPECT_FALSE(Passes(cluster_.Hello("w1", Cluster::Slots("cpu", 1))));
  EXPECT_FALSE(Passes(cluster_.Hello("w2", Cluster::Slots("cuda", 8)))) << "they do not suit";
  EXPECT_EQ(ReasonOf("waits"), StatusReason::kNotEnoughDevices);
  EXPECT_TRUE(Passes(cluster_.Hello("w3", Cluster::Slots("cpu", 1))));
  EXPECT_EQ(ReasonOf("waits"), StatusReason::kWaitingForDevices) << "four exist, two are free";
  EXPECT_FALSE(Passes(cluster_.Hello("w4", Cluster::Slots("cpu", 1))));
  cluster_.Connect("w5", Cluster::Slots("cpu", 1));
  EXPECT_EQ(StateOf("waits"), JobState::kStarting);
}

TEST_F(PassTest, AWorkerThatComesBackIsToldOfToThoseWhoWereToldThatItIsGone) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  Submit("running", 2);
  cluster_.Must(CordonWorker{{"user:root"}, "w0"});
  Submit("waits", 2);
  ASSERT_EQ(ReasonOf("waits"), StatusReason::kNotEnoughDevices);
  cluster_.Must(UncordonWorker{{"user:root"}, "w0"});
  EXPECT_EQ(ReasonOf("waits"), StatusReason::kWaitingForDevices);
}

TEST_F(PassTest, DevicesThatAreGivenBackStartTheNextAtOnce) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 1));
  cluster_.Connect("w1", Cluster::Slots("cpu", 1));
  Submit("a", 1);
  Submit("b", 1);
  Submit("c", 1);
  Ends("a");
  EXPECT_EQ(StateOf("c"), JobState::kStarting);
}

TEST_F(PassTest, DevicesThatAreGivenBackLetInWhomAQuotaHeldBack) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 3));
  cluster_.Must(SetQuota{{"user:root"}, {"users/ann", 1, 0, std::nullopt}});
  Submit("first", 1);
  Submit("second", 1);
  ASSERT_EQ(ReasonOf("second"), StatusReason::kQuotaExceeded) << "two devices are free";
  Ends("first");
  EXPECT_EQ(StateOf("second"), JobState::kStarting);
}

TEST_F(PassTest, AQuotaIsNamedAlsoWhereDevicesAreMissing) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  cluster_.Must(SetQuota{{"user:root"}, {"users/bob", 1, 0, std::nullopt}});
  Submit("running", 2);
  Submit("anns", 2);
  Submit("bobs", 2, "bob");
  EXPECT_EQ(ReasonOf("anns"), StatusReason::kWaitingForDevices);
  EXPECT_EQ(ReasonOf("bobs"), StatusReason::kQuotaExceeded);
  EXPECT_THAT(cluster_.Job("bobs").message, HasSubstr("users/bob"));
  // One that comes later hears the same.
  Submit("bobs-too", 2, "bob");
  EXPECT_EQ(ReasonOf("bobs-too"), StatusReason::kQuotaExceeded);
  // And when the quota is no longer what holds them back.
  cluster_.Must(SetQuota{{"user:root"}, {"users/bob", std::nullopt, 0, std::nullopt}});
  EXPECT_EQ(ReasonOf("bobs"), StatusReason::kWaitingForDevices);
  EXPECT_EQ(ReasonOf("bobs-too"), StatusReason::kWaitingForDevices);
}

TEST_F(PassTest, ALabelIsNoReasonToLookAtTheQueue) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  Submit("running", 2);
  Submit("waits", 2);
  UpdateJob label{{"user:ann"}, "waits"};
  label.set_labels["study"] = "a";
  EXPECT_FALSE(Passes(label));
  UpdateJob priority{{"user:ann"}, "waits"};
  priority.priority = 5;
  EXPECT_TRUE(Passes(priority));
}

// The store keeps the reason that a job had when something else of it was written.
TEST_F(PassTest, AfterARestartEveryJobIsToldWhyItWaitsNow) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  Submit("running", 2);
  Submit("first", 2);
  Submit("second", 2);
  auto stored = std::make_shared<JobRecord>(cluster_.Job("second"));
  stored->reason = StatusReason::kDiskFull;
  stored->message = "nearly full";
  cluster_.state.Apply(PutJob{std::move(stored)});
  cluster_.state.Apply(PutPassMemo{nullptr});
  cluster_.Must(Recovered{});
  EXPECT_EQ(ReasonOf("second"), StatusReason::kNotEnoughDevices) << "no worker has connected yet";
  EXPECT_EQ(cluster_.Job("second").message, cluster_.Job("first").message);
}

// Numbers of shapes are given again: what was found out about the shape before must not be taken for this one's.
TEST_F(PassTest, AShapeIsNotTakenForTheOneThatHadItsNumberBefore) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  CreateJob cuda = Cluster::Submission("cuda", 2);
  cuda.needs.kind = "cuda";
  cluster_.Must(cuda);
  ASSERT_EQ(ReasonOf("cuda"), StatusReason::kNotEnoughDevices);
  cluster_.Must(KillJob{{"user:ann"}, "cuda", ""});
  Submit("cpu", 2);
  EXPECT_EQ(StateOf("cpu"), JobState::kStarting);
}

TEST_F(PassTest, AJobThatFitsHasItsTurnBehindOneForWhichDevicesAreKept) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 3));
  Submit("running", 1);
  Submit("big", 3);
  Submit("yields", 2, "ann", /*preemptible=*/true);
  EXPECT_EQ(StateOf("yields"), JobState::kStarting);
  EXPECT_TRUE(cluster_.state.reservations().contains("big"));
}

// What was kept for one stands in nobody's way once it has started elsewhere: the next gets its turn before those of
// lower priority.
TEST_F(PassTest, WhoStoodBehindAReservationHasATurnOnceItIsNotNeeded) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 4));
  Submit("low", 4, "ann", /*preemptible=*/true);
  cluster_.Run("low");
  const auto submit = [&](const std::string& id, int devices, int priority) {
    CreateJob create = Cluster::Submission(id, devices);
    create.needs.preemptible = false;
    create.priority = priority;
    cluster_.Must(create);
  };
  submit("top", 1, 2);
  submit("middle", 5, 1);
  submit("tiny", 1, 0);
  ASSERT_EQ(StateOf("low"), JobState::kPausing) << "makes room for `top`";
  cluster_.Connect("w1", Cluster::Slots("cpu", 2));
  EXPECT_EQ(StateOf("top"), JobState::kStarting);
  EXPECT_TRUE(cluster_.state.reservations().contains("middle"));
  EXPECT_EQ(StateOf("tiny"), JobState::kQueued) << "`middle` needs all that is left";
}

TEST_F(PassTest, WhatAQueuesWorkersAreIsFoundAnewWhenItGetsOthers) {
  WorkerConnected hello = cluster_.Hello("w0", Cluster::Slots("cpu", 1));
  hello.hello.labels["site"] = "north";
  cluster_.Must(hello);
  cluster_.Must(SetQueue{{"user:root"}, {"far", {{"site", "south"}}, "", {}}, /*create=*/true});
  CreateJob create = Cluster::Submission("waits");
  create.queue = "far";
  cluster_.Must(create);
  ASSERT_EQ(ReasonOf("waits"), StatusReason::kNotEnoughDevices);
  cluster_.Must(SetQueue{{"user:root"}, {"far", {{"site", "north"}}, "", {}}});
  EXPECT_EQ(StateOf("waits"), JobState::kStarting);
}

}  // namespace
}  // namespace p2::scheduler
