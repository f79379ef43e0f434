// Whose turn it is: priority, fair share, quotas, reservations and backfill, preemption, elastic gangs.
#include "server/scheduler/explain.h"
#include "server/scheduler/shares.h"
#include "tests/server/scheduler/cluster.h"

namespace p2::scheduler {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class QueueTest : public testing::Test {
 protected:
  CreateJob Of(const std::string& id, const std::string& owner, int devices = 1, int priority = 0) {
    CreateJob create = Cluster::Submission(id, devices);
    create.owner = owner;
    create.project = "default";
    create.priority = priority;
    return create;
  }
  void Submit(const std::string& id, const std::string& owner, int devices = 1, int priority = 0) {
    cluster_.Must(Of(id, owner, devices, priority));
  }
  std::vector<std::string> Running() {
    std::vector<std::string> ids;
    for (const JobPtr& job : cluster_.state.live_jobs().Sorted()) {
      if (job->live_attempt() != nullptr && job->live_attempt()->stop_mode == StopMode::kNone) ids.push_back(job->id);
    }
    return ids;
  }
  void SetQuota(QuotaRecord quota) { cluster_.Must(SetQuota_{{"user:root"}, std::move(quota)}); }
  // Its ranks, on one worker, stop as they were asked to.
  void StopsAsAsked(const std::string& job) {
    const std::string worker = cluster_.Job(job).attempts.back()->ranks[0].worker;
    cluster_.EndRank(worker, job, 40);
  }
  void Rate(const std::string& job, int64_t images, double rate) {
    const JobRecord& record = cluster_.Job(job);
    const std::string worker = record.attempts.back()->ranks[0].worker;
    Heartbeat beat{worker,
                   cluster_.Worker(worker).session,
                   {{job, record.epoch, images, rate, "step"}},
                   cluster_.Worker(worker).roots};
    cluster_.Must(beat);
  }

  using SetQuota_ = ::p2::scheduler::SetQuota;
  Cluster cluster_;
};

// --- Fair share. ---
TEST_F(QueueTest, WhatAPassGivesCountsFromNowOn) {
  const absl::Time now = absl::FromUnixSeconds(1'000'000);
  const absl::Duration half_life = absl::Hours(24), horizon = absl::Minutes(10);
  const ShareRecord share{"default/ann", /*weight=*/2, /*usage=*/500, /*as_of_mono=*/now - absl::Hours(10),
                          /*devices=*/1};
  const double more = ShareScore(share, 3, now, half_life, horizon) - ShareScore(share, 0, now, half_life, horizon);
  EXPECT_NEAR(more, 3 * absl::ToDoubleSeconds(horizon) / 2, 1e-9);
}

TEST_F(QueueTest, WithinOnePassOwnersTakeTurns) {
  for (int i = 0; i < 4; ++i) Submit(absl::StrCat("ann-", i), "ann");
  for (int i = 0; i < 4; ++i) Submit(absl::StrCat("bob-", i), "bob");
  cluster_.Connect("w0", Cluster::Slots("cpu", 4));
  EXPECT_THAT(Running(), ElementsAre("ann-0", "ann-1", "bob-0", "bob-1"));
}

TEST_F(QueueTest, WhoHadLessDeviceTimeComesFirst) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 1));
  Submit("ann-0", "ann");
  Submit("ann-1", "ann");
  Submit("bob-0", "bob");
  cluster_.Run("ann-0");
  cluster_.Pass(absl::Hours(1), {"w0"});
  cluster_.Report("w0", "ann-0", TrainerFinished{TrainerFinished::Outcome::kDone, 0, 1000});
  cluster_.EndRank("w0", "ann-0", 0);
  EXPECT_THAT(Running(), ElementsAre("bob-0"));
  const ShareRecord share = cluster_.state.ShareOf("default/ann");
  EXPECT_NEAR(share.usage, 3600, 60);
  EXPECT_EQ(share.devices, 0);
  EXPECT_EQ(cluster_.state.ShareOf("default").devices, 1);
}

TEST_F(QueueTest, AHeavierAccountGetsMore) {
  ShareRecord heavy;
  heavy.weight = 3;
  heavy.id = "default/ann";
  cluster_.Must(SetWeight{{"user:root"}, "default/ann", 3});
  for (int i = 0; i < 4; ++i) Submit(absl::StrCat("ann-", i), "ann");
  for (int i = 0; i < 4; ++i) Submit(absl::StrCat("bob-", i), "bob");
  cluster_.Connect("w0", Cluster::Slots("cpu", 4));
  EXPECT_THAT(Running(), ElementsAre("ann-0", "ann-1", "ann-2", "bob-0"));
}

TEST(ShareTest, UsageHalvesAndTheDevicesHeldAddUp) {
  ShareRecord share;
  share.usage = 1000;
  share.as_of_mono = absl::FromUnixSeconds(0);
  const absl::Time day = absl::FromUnixSeconds(24 * 3600);
  EXPECT_NEAR(UsageAt(share, day, absl::Hours(24)), 500, 1e-9);
  share.devices = 2;
  // The integral of 2 * 2^(-(T - t) / h) over one half-life h: h / ln 2.
  EXPECT_NEAR(UsageAt(share, day, absl::Hours(24)), 500 + 2 * 0.5 * 24 * 3600 / std::log(2.0), 1e-6);
}

// --- Priority and order. ---
TEST_F(QueueTest, PriorityChangesWhileQueued) {
  Submit("first", "ann");
  Submit("second", "ann");
  UpdateJob update{{"user:ann"}, "second"};
  update.priority = 7;
  cluster_.Must(update);
  cluster_.Connect("w0", Cluster::Slots("cpu", 1));
  EXPECT_THAT(Running(), ElementsAre("second"));
}

TEST_F(QueueTest, AJobIsMovedWithinItsClass) {
  for (const char* id : {"a", "b", "c"}) Submit(id, "ann");
  cluster_.Must(MoveJob{{"user:ann"}, "c", MoveJob::Where::kBefore, "b"});
  cluster_.Must(MoveJob{{"user:ann"}, "a", MoveJob::Where::kLast, ""});
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  EXPECT_THAT(Running(), ElementsAre("b", "c"));
  EXPECT_EQ(cluster_.Do(MoveJob{{"user:ann"}, "b", MoveJob::Where::kFirst, ""}).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(QueueTest, ManyMovesBetweenTheSameNeighboursKeepTheOrder) {
  for (const char* id : {"a", "b", "c", "d"}) Submit(id, "ann");
  for (int i = 0; i < 60; ++i)
    cluster_.Must(MoveJob{{"user:ann"}, i % 2 == 0 ? "c" : "b", MoveJob::Where::kAfter, "a"});
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  EXPECT_THAT(Running(), ElementsAre("a", "b"));
}

// --- Quotas. ---
TEST_F(QueueTest, AQuotaLimitsTheDevicesHeld) {
  SetQuota({.id = "users/ann", .devices = 2});
  for (int i = 0; i < 3; ++i) Submit(absl::StrCat("ann-", i), "ann");
  Submit("bob-0", "bob");
  cluster_.Connect("w0", Cluster::Slots("cpu", 8));
  EXPECT_THAT(Running(), ElementsAre("ann-0", "ann-1", "bob-0"));
  EXPECT_EQ(cluster_.Job("ann-2").reason, StatusReason::kQuotaExceeded);
  EXPECT_THAT(cluster_.Job("ann-2").message, HasSubstr("users/ann"));
  cluster_.Must(KillJob{{"user:ann"}, "ann-0", ""});
  EXPECT_THAT(Running(), Contains("ann-2"));
}

TEST_F(QueueTest, AQuotaLimitsTheQueuedJobs) {
  SetQuota({.id = "projects/default", .queued_jobs = 2});
  Submit("a", "ann");
  Submit("b", "bob");
  const absl::Status status = cluster_.Do(Of("c", "ann"));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("projects/default may have 2 jobs queued and has 2"));
}

TEST_F(QueueTest, WhatIsBorrowedIsTakenBackByThoseWithinTheirQuota) {
  SetQuota({.id = "users/ann", .devices = 1, .borrow = -1});
  SetQuota({.id = "users/bob", .devices = 2});
  for (int i = 0; i < 3; ++i) Submit(absl::StrCat("ann-", i), "ann");
  cluster_.Connect("w0", Cluster::Slots("cpu", 3));
  EXPECT_THAT(Running(), SizeIs(3));  // Two of them borrowed.
  for (int i = 0; i < 3; ++i) cluster_.Run(absl::StrCat("ann-", i));
  Submit("bob-0", "bob");
  EXPECT_THAT(Running(), SizeIs(2));
  Submit("bob-1", "bob", 1);
  for (int i = 0; i < 3; ++i) {
    if (cluster_.Job(absl::StrCat("ann-", i)).state == JobState::kPausing) StopsAsAsked(absl::StrCat("ann-", i));
  }
  EXPECT_THAT(Running(), Contains("bob-0"));
}

TEST_F(QueueTest, ThoseWithinTheirQuotaComeBeforeThoseWhoBorrow) {
  SetQuota({.id = "users/ann", .devices = 0, .borrow = -1});
  Submit("ann-0", "ann");
  Submit("bob-0", "bob");
  cluster_.Connect("w0", Cluster::Slots("cpu", 1));
  EXPECT_THAT(Running(), ElementsAre("bob-0"));
}

// --- Reservation and backfill. ---
TEST_F(QueueTest, AShortJobFillsTheHoleBeforeAReservedStart) {
  cluster_.options.backfill_least = absl::Hours(100);  // Nobody is let in just because it can yield.
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  Submit("long", "ann");
  cluster_.Run("long");
  Rate("long", 0, 1);  // 1000 images: ends in 1000 s.
  Submit("big", "ann", 2);
  ASSERT_EQ(cluster_.Job("big").state, JobState::kQueued);
  ASSERT_EQ(cluster_.state.reservations().count("big"), 1u);
  EXPECT_EQ(cluster_.state.reservations().at("big").start_mono, cluster_.now.mono + absl::Seconds(1000));
  Submit("unknown", "ann");
  EXPECT_EQ(Explain(cluster_.state, "unknown", cluster_.now, cluster_.options)->reason, StatusReason::kReserved);
}

TEST_F(QueueTest, AJobThatYieldsRunsUntilTheReservedOneCanStart) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  Submit("long", "ann");
  cluster_.Run("long");
  Submit("big", "ann", 2);
  Submit("filler", "ann");
  ASSERT_THAT(Running(), ElementsAre("filler", "long"));
  EXPECT_TRUE(cluster_.Job("filler").live_attempt()->backfill);
  cluster_.Run("filler");
  cluster_.Must(KillJob{{"user:ann"}, "long", ""});
  cluster_.EndRank("w0", "long", 137);
  EXPECT_EQ(cluster_.Job("filler").state, JobState::kPausing);
  EXPECT_EQ(cluster_.Job("filler").reason, StatusReason::kYielded);
  Submit("later", "ann");  // Nobody else slips in meanwhile.
  EXPECT_EQ(cluster_.Job("later").state, JobState::kQueued);
  StopsAsAsked("filler");
  EXPECT_THAT(Running(), ElementsAre("big"));
  EXPECT_EQ(cluster_.Job("filler").state, JobState::kQueued);
}

TEST_F(QueueTest, AJobThatCannotYieldNeverTakesWhatIsReserved) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  Submit("long", "ann");
  cluster_.Run("long");
  Submit("big", "ann", 2);
  CreateJob stubborn = Of("stubborn", "ann");
  stubborn.needs.preemptible = false;
  cluster_.Must(stubborn);
  EXPECT_EQ(Explain(cluster_.state, "stubborn", cluster_.now, cluster_.options)->reason, StatusReason::kReserved);
}

// --- Preemption. ---
TEST_F(QueueTest, AHigherPriorityTakesTheDevicesOfThoseWhoLoseLeast) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  Submit("saved", "ann");
  Submit("unsaved", "ann");
  for (const char* id : {"saved", "unsaved"}) cluster_.Run(id);
  Rate("saved", 500, 1);
  Rate("unsaved", 500, 1);
  cluster_.Commit("w0", "saved", 490);
  Submit("urgent", "bob", 1, 5);
  EXPECT_EQ(cluster_.Job("saved").state, JobState::kPausing);
  EXPECT_EQ(cluster_.Job("saved").reason, StatusReason::kPreempted);
  EXPECT_EQ(cluster_.Job("unsaved").state, JobState::kRunning);
  EXPECT_THAT(cluster_.ActionsOf<StopAttempt>(), ElementsAre(StopAttempt{"w0", "saved", 1, StopMode::kCheckpoint}));
  Submit("sneaky", "carl", 1, 5);  // The devices that come free are for `urgent`.
  EXPECT_EQ(cluster_.Job("unsaved").state, JobState::kRunning);
  StopsAsAsked("saved");
  EXPECT_THAT(Running(), Contains("urgent"));
  EXPECT_EQ(cluster_.Job("sneaky").state, JobState::kQueued);
  EXPECT_EQ(cluster_.Job("saved").state, JobState::kQueued);
  EXPECT_EQ(cluster_.Job("saved").attempts[0]->outcome, Outcome::kStopped);
  EXPECT_EQ(cluster_.Job("saved").attempts[0]->reason, StatusReason::kPreempted);
  EXPECT_EQ(cluster_.Job("saved").restarts_used, 0);
  EXPECT_THAT(cluster_.EventReasons(), Contains("JOB_PREEMPTED"));
}

TEST_F(QueueTest, EqualPriorityPreemptsNobody) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 1));
  Submit("first", "ann");
  cluster_.Run("first");
  Submit("second", "bob");
  EXPECT_EQ(cluster_.Job("first").state, JobState::kRunning);
}

TEST_F(QueueTest, OnlyAsManyAreStoppedAsAreNeeded) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 1));
  cluster_.Connect("w1", Cluster::Slots("cpu", 4));
  Submit("a", "ann");
  Submit("b", "ann", 4);
  for (const char* id : {"a", "b"}) cluster_.Run(id);
  Submit("urgent", "bob", 4, 5);
  EXPECT_EQ(cluster_.Job("b").state, JobState::kPausing);
  EXPECT_EQ(cluster_.Job("a").state, JobState::kRunning);
}

TEST_F(QueueTest, NobodyIsPreemptedForAJobThatWouldNotFitAllTheSame) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  CreateJob stubborn = Of("stubborn", "ann");
  stubborn.needs.preemptible = false;
  cluster_.Must(stubborn);
  Submit("soft", "ann");
  for (const char* id : {"stubborn", "soft"}) cluster_.Run(id);
  Submit("urgent", "bob", 2, 5);
  EXPECT_EQ(cluster_.Job("soft").state, JobState::kRunning);
}

TEST_F(QueueTest, AJobIsNotPreemptedOverAndOver) {
  cluster_.options.churn_limit = 2;
  cluster_.Connect("w0", Cluster::Slots("cpu", 1));
  Submit("victim", "ann");
  for (int i = 0; i < 2; ++i) {
    cluster_.Run("victim");
    const std::string urgent = absl::StrCat("urgent-", i);
    Submit(urgent, "bob", 1, 5);
    ASSERT_EQ(cluster_.Job("victim").state, JobState::kPausing) << i;
    StopsAsAsked("victim");
    cluster_.Must(KillJob{{"user:bob"}, urgent, ""});
  }
  cluster_.Run("victim");
  Submit("urgent-2", "bob", 1, 5);
  EXPECT_EQ(cluster_.Job("victim").state, JobState::kRunning);
  EXPECT_EQ(cluster_.Job("victim").preemptions, 2);
  cluster_.Pass(absl::Hours(1) + absl::Seconds(20), {"w0"});
  EXPECT_EQ(cluster_.Job("victim").state, JobState::kPausing);
}

// --- Selectors, memory, queues. ---
TEST_F(QueueTest, LabelsAndMemoryDecideWhereAJobMayRun) {
  WorkerConnected plain = cluster_.Hello("w0", Cluster::Slots("cpu", 1));
  cluster_.Must(plain);
  WorkerConnected fast = cluster_.Hello("w1", Cluster::Slots("cpu", 1));
  fast.hello.labels = {{"disk", "nvme"}};
  fast.hello.slots[0].memory_bytes = int64_t{80} << 30;
  cluster_.Must(fast);
  CreateJob picky = Of("picky", "ann");
  picky.needs.selector = {{"disk", "nvme"}};
  picky.needs.device_memory_min = int64_t{40} << 30;
  cluster_.Must(picky);
  EXPECT_THAT(cluster_.WorkersOf("picky"), ElementsAre("w1"));
  CreateJob hungry = Of("hungry", "ann");
  hungry.needs.device_memory_min = int64_t{100} << 30;
  cluster_.Must(hungry);
  EXPECT_EQ(cluster_.Job("hungry").reason, StatusReason::kNotEnoughDevices);
}

TEST_F(QueueTest, AQueueIsASetOfWorkers) {
  WorkerConnected gold = cluster_.Hello("w0", Cluster::Slots("cpu", 1));
  gold.hello.labels = {{"pool", "gold"}};
  cluster_.Must(gold);
  cluster_.Connect("w1", Cluster::Slots("cpu", 1));
  cluster_.Must(SetQueue{{"user:root"}, {"gold", {{"pool", "gold"}}, "", {}}, /*create=*/true});
  CreateJob create = Of("a", "ann");
  create.queue = "gold";
  cluster_.Must(create);
  EXPECT_THAT(cluster_.WorkersOf("a"), ElementsAre("w0"));
  create.id = "b";
  cluster_.Must(create);
  EXPECT_EQ(cluster_.Job("b").state, JobState::kQueued);
  create.id = "c";
  create.queue = "silver";
  EXPECT_EQ(cluster_.Do(create).code(), absl::StatusCode::kNotFound);
}

// --- Elastic gangs. ---
TEST_F(QueueTest, AnElasticJobStartsSmallerAndGrowsAtACheckpoint) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  CreateJob elastic = Of("elastic", "ann", 4);
  elastic.needs.devices_min = 1;
  cluster_.Must(elastic);
  EXPECT_EQ(cluster_.ActionsOf<Prepare>()[0].world_size, 2);
  cluster_.Run("elastic");
  cluster_.Connect("w1", Cluster::Slots("cpu", 4));
  EXPECT_EQ(cluster_.Job("elastic").state, JobState::kRunning);  // Not before a checkpoint.
  cluster_.Commit("w0", "elastic", 100);
  EXPECT_EQ(cluster_.Job("elastic").state, JobState::kPausing);
  EXPECT_EQ(cluster_.Job("elastic").reason, StatusReason::kResizing);
  StopsAsAsked("elastic");
  EXPECT_EQ(cluster_.Job("elastic").state, JobState::kStarting);
  EXPECT_THAT(cluster_.Job("elastic").live_attempt()->ranks, SizeIs(4));
  EXPECT_THAT(cluster_.WorkersOf("elastic"), ElementsAre("w1"));
}

TEST_F(QueueTest, AnElasticJobShrinksWhenANodeIsLost) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 1));
  cluster_.Connect("w1", Cluster::Slots("cpu", 1));
  CreateJob elastic = Of("elastic", "ann", 2);
  elastic.needs.devices_min = 1;
  cluster_.Must(elastic);
  cluster_.Run("elastic");
  cluster_.Pass(absl::Seconds(16), {"w0"});
  ASSERT_EQ(cluster_.Worker("w1").state, WorkerState::kLost);
  cluster_.EndRank("w0", "elastic", 137);
  cluster_.Pass(absl::Seconds(3), {"w0"});
  EXPECT_THAT(cluster_.WorkersOf("elastic"), ElementsAre("w0"));
  EXPECT_THAT(cluster_.Job("elastic").live_attempt()->ranks, SizeIs(1));
}

TEST_F(QueueTest, NobodyGrowsWhileSomebodyWaits) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 1));
  CreateJob elastic = Of("elastic", "ann", 2);
  elastic.needs.devices_min = 1;
  cluster_.Must(elastic);
  cluster_.Run("elastic");
  Submit("big", "bob", 3);
  cluster_.Connect("w1", Cluster::Slots("cpu", 2));
  cluster_.Commit("w0", "elastic", 100);
  EXPECT_EQ(cluster_.Job("elastic").state, JobState::kRunning);
}

// --- Nodes that break jobs. ---
TEST_F(QueueTest, ANodeThatBreaksTwoJobsIsCordoned) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  for (const char* id : {"a", "b"}) {
    Submit(id, "ann");
    cluster_.Run(id);
  }
  cluster_.EndRank("w0", "a", 51);
  EXPECT_FALSE(cluster_.Worker("w0").cordoned);
  cluster_.EndRank("w0", "b", 139);
  EXPECT_TRUE(cluster_.Worker("w0").cordoned);
  EXPECT_THAT(cluster_.Worker("w0").cordon_reason, HasSubstr("jobs a, b broke on it"));
  cluster_.Must(UncordonWorker{{"user:root"}, "w0"});
  EXPECT_TRUE(cluster_.Worker("w0").failed_jobs.empty());
}

TEST_F(QueueTest, ASuccessInBetweenClearsTheNode) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 1));
  Submit("a", "ann");
  cluster_.Run("a");
  cluster_.EndRank("w0", "a", 51);
  cluster_.Must(KillJob{{"user:ann"}, "a", ""});
  Submit("good", "ann");
  cluster_.Run("good");
  cluster_.Report("w0", "good", TrainerFinished{TrainerFinished::Outcome::kDone, 0, 1000});
  cluster_.EndRank("w0", "good", 0);
  Submit("b", "ann");
  cluster_.Run("b");
  cluster_.EndRank("w0", "b", 51);
  EXPECT_FALSE(cluster_.Worker("w0").cordoned);
}

// docs/scheduling.md: a job that comes before the head by fair share takes the reservation over, *unless others were
// already stopped for the head*. Else who yielded gets the same devices again at once, holds them, comes behind the
// head once more, yields …: for ever, several times a second, and neither job gets anywhere.
TEST_F(QueueTest, WhoYieldsIsNotGivenTheDevicesBackBeforeTheOneItYieldedTo) {
  const auto submit = [&](const std::string& owner, const std::string& id, int devices) {
    CreateJob create = Of(id, owner, devices);
    create.needs.images_total = 1'000'000;
    cluster_.Must(create);
  };
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  cluster_.Connect("w1", Cluster::Slots("cpu", 2));
  // Bob has used more than Ann by a little, and less than Ann uses once she holds two devices.
  submit("bob", "before", 2);
  cluster_.Run("before");
  cluster_.Pass(absl::Seconds(100), {"w0", "w1"});
  const std::string first = cluster_.WorkersOf("before").front();
  cluster_.Report(first, "before", TrainerFinished{TrainerFinished::Outcome::kDone, 0, 1'000'000, ""});
  cluster_.Report(first, "before", AttemptEnded{{{0, 0}, {1, 0}}, false, ""});
  // Somebody else's job holds the other half for ten hours.
  submit("cat", "long", 2);
  cluster_.Run("long");
  const std::string busy = cluster_.WorkersOf("long").front();
  cluster_.Must(
      Heartbeat{busy, cluster_.Worker(busy).session, {{"long", 1, 0, 27.0, "step"}}, cluster_.Worker(busy).roots});

  submit("ann", "big", 4);
  submit("ann", "small-a", 2);
  cluster_.Run("small-a");
  ASSERT_TRUE(cluster_.Job("small-a").live_attempt()->backfill);
  const std::string worker = cluster_.WorkersOf("small-a").front();
  cluster_.Must(Heartbeat{
      worker, cluster_.Worker(worker).session, {{"small-a", 1, 0, 40.0, "step"}}, cluster_.Worker(worker).roots});
  submit("bob", "small-b", 2);
  cluster_.Pass(absl::Seconds(2), {"w0", "w1"});
  ASSERT_EQ(cluster_.Job("small-a").state, JobState::kPausing) << "it yields to small-b";

  cluster_.Report(worker, "small-a", TrainerFinished{TrainerFinished::Outcome::kStopped, 40, 0, ""});
  cluster_.Report(worker, "small-a", AttemptEnded{{{0, 40}, {1, 40}}, false, ""});
  EXPECT_EQ(cluster_.Job("small-b").state, JobState::kStarting) << "the devices were given back for it";
  EXPECT_EQ(cluster_.Job("small-a").state, JobState::kQueued) << cluster_.Job("small-a").message;
}

TEST_F(QueueTest, AnElasticJobDoesNotStopForDevicesThatItWouldShun) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  CreateJob elastic = Of("elastic", "ann", 4);
  elastic.needs.devices_min = 2;
  cluster_.Must(elastic);
  cluster_.Run("elastic");
  cluster_.Report("w0", "elastic", AttemptEnded{{{0, 51}, {1, 137, false, true}}, false, ""});
  ASSERT_THAT(cluster_.Worker("w0").failed_jobs, ElementsAre("elastic"));
  cluster_.Connect("w1", Cluster::Slots("cpu", 2));
  cluster_.Pass(absl::Seconds(5), {"w0", "w1"});
  ASSERT_THAT(cluster_.WorkersOf("elastic"), ElementsAre("w1"));
  cluster_.Run("elastic");
  CheckpointReported saved;
  saved.checkpoint.id = "ckpt-100";
  saved.checkpoint.images_seen = 100;
  saved.checkpoint.path = "elastic/ckpt-100";
  cluster_.Report("w1", "elastic", saved);
  cluster_.Pass(absl::Seconds(5), {"w0", "w1"});
  EXPECT_EQ(cluster_.Job("elastic").state, JobState::kRunning);
}

}  // namespace
}  // namespace p2::scheduler
