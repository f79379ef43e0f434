// Each invariant can fail: a right decision is spoilt as a bug would, and the checker names what broke.
#include "tests/server/scheduler/simulation/checker.h"

#include <functional>
#include <memory>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/scheduler/cluster.h"

namespace p2::scheduler {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;

using Spoil = std::function<void(StepResult&)>;

// Two workers with two slots each, watched.
class CheckerTest : public testing::Test {
 protected:
  CheckerTest() {
    Take(cluster_.Hello("w0", Cluster::Slots("cpu", 2)));
    Take(cluster_.Hello("w1", Cluster::Slots("cpu", 2)));
  }

  // The event, then the passes that are due. `spoil` is done to the event's result, `spoil_pass` to that of each pass.
  void Take(const Event& event, const Spoil& spoil = nullptr, const Spoil& spoil_pass = nullptr) {
    TakeOne(event, spoil);
    while (cluster_.state.pass_due()) TakeOne(SchedulePass{}, spoil_pass);
  }
  void TakeOne(const Event& event, const Spoil& spoil) {
    absl::StatusOr<StepResult> result = Step(cluster_.state, event, cluster_.now);
    ASSERT_TRUE(result.ok()) << result.status();
    if (spoil) spoil(*result);
    for (const Mutation& mutation : result->mutations) {
      cluster_.state.Apply(mutation);
      store_.Apply(mutation);
    }
    checker_.Observe(event, result, cluster_.now);
  }
  void Submit(const std::string& id, int devices = 1, const Spoil& spoil_pass = nullptr) {
    Take(Cluster::Submission(id, devices), nullptr, spoil_pass);
  }
  PrepareReply Prepared(const std::string& worker, const std::string& job) {
    return {worker, job, cluster_.Job(job).epoch, true, "", "10.0.0.1", 7000};
  }
  void Run(const std::string& job) {
    const std::vector<std::string> workers = cluster_.WorkersOf(job);
    for (const std::string& worker : workers) Take(Prepared(worker, job));
    for (const std::string& worker : workers) Report(worker, job, AttemptStarted{});
  }
  void Report(const std::string& worker, const std::string& job, SpoolBody body, const Spoil& spoil = nullptr) {
    Take(cluster_.Record(worker, job, std::move(body)), spoil);
  }
  static CheckpointReported Saved(int64_t images) {
    CheckpointReported reported;
    reported.checkpoint.images_seen = images;
    reported.checkpoint.id = absl::StrCat("ckpt-", images);
    reported.checkpoint.path = absl::StrCat("a/ckpt-", images);
    return reported;
  }
  // The rank fails, and the backoff passes.
  void FailOnce(const Spoil& spoil = nullptr) {
    Report(cluster_.WorkersOf("a")[0], "a", AttemptEnded{{{0, 1}}, false, ""}, spoil);
    cluster_.Wait(absl::Seconds(1000));
    for (const char* worker : {"w0", "w1"}) {
      Take(Heartbeat{worker, cluster_.Worker(worker).session, {}, cluster_.Worker(worker).roots});
    }
    Take(Tick{});
  }

  std::set<std::string> Broken() {
    std::set<std::string> broken;
    for (const Violation& violation : checker_.violations()) broken.insert(violation.invariant);
    return broken;
  }
  void ExpectNothingBroken() {
    EXPECT_THAT(Broken(), IsEmpty()) << (checker_.violations().empty() ? "" : checker_.violations().front().what);
  }

  // The job's record in the result, to be changed.
  static JobRecord& Of(StepResult& result, const std::string& id) {
    for (Mutation& mutation : result.mutations) {
      auto* put = std::get_if<PutJob>(&mutation);
      if (put == nullptr || put->job->id != id) continue;
      auto changed = std::make_shared<JobRecord>(*put->job);
      put->job = changed;
      return *changed;
    }
    ADD_FAILURE() << "nothing about job " << id;
    static JobRecord none;
    return none;
  }
  template <typename M>
  static void Drop(StepResult& result) {
    const size_t before = result.mutations.size();
    std::erase_if(result.mutations, [](const Mutation& it) { return std::holds_alternative<M>(it); });
    EXPECT_LT(result.mutations.size(), before);
  }
  template <typename M>
  static M& Find(StepResult& result) {
    for (Mutation& mutation : result.mutations) {
      if (auto* found = std::get_if<M>(&mutation)) return *found;
    }
    ADD_FAILURE() << "no such mutation";
    static M none;
    return none;
  }
  template <typename A>
  static A& FindAction(StepResult& result) {
    for (Action& action : result.actions) {
      if (auto* found = std::get_if<A>(&action)) return *found;
    }
    ADD_FAILURE() << "no such action";
    static A none;
    return none;
  }

  Cluster cluster_;
  FakeStore store_;
  Checker checker_;
};

TEST_F(CheckerTest, FindsNothingInAWholeLife) {
  Submit("a", 3);
  Run("a");
  Report("w0", "a", TrainerStarted{0, "", {}});
  Report("w0", "a", MetricsReported{1, 100, 1, cluster_.now.wall, {{"loss", 1.0}}});
  for (int images : {100, 200, 300, 400}) Report("w0", "a", Saved(images));
  Report("w0", "a", TrainerFinished{TrainerFinished::Outcome::kDone, 0, 1000, ""});
  Report("w0", "a", AttemptEnded{{{0, 0}, {1, 0}}, false, ""});
  Report("w1", "a", AttemptEnded{{{2, 0}}, false, ""});
  EXPECT_EQ(cluster_.Job("a").state, JobState::kSucceeded);
  checker_.CheckWhole(cluster_.state, store_);
  ExpectNothingBroken();
}

TEST_F(CheckerTest, I1SeesASubmitThatIsAnsweredButNotWritten) {
  Take(Cluster::Submission("a"), Drop<PutJob>);
  EXPECT_THAT(Broken(), Contains("I1"));
}

TEST_F(CheckerTest, I1SeesAPayloadThatChanges) {
  Submit("a");
  ExpectNothingBroken();
  Take(PauseJob{{"user:ann"}, "a", ""}, [](StepResult& result) { Of(result, "a").needs.Edit().images_total = 1; });
  EXPECT_THAT(Broken(), Contains("I1"));
}

TEST_F(CheckerTest, I1SeesALiveJobThatIsErased) {
  Submit("a");
  Take(Tick{}, [](StepResult& result) { result.mutations.push_back(EraseJob{"a", 99}); });
  EXPECT_THAT(Broken(), Contains("I1"));
}

TEST_F(CheckerTest, I2SeesASecondJobOfOneRequest) {
  CreateJob create = Cluster::Submission("a");
  create.info.request_id = "r";
  create.info.payload_sha256 = "p";
  Take(create);
  ExpectNothingBroken();
  create.id = "b";  // Sent again, and p2d has forgotten the first.
  Take(create);
  EXPECT_THAT(Broken(), Contains("I2"));
}

TEST_F(CheckerTest, I2SeesARequestThatIsNotKept) {
  CreateJob create = Cluster::Submission("a");
  create.info.request_id = "r";
  Take(create, Drop<PutRequest>);
  EXPECT_THAT(Broken(), Contains("I2"));
}

TEST_F(CheckerTest, I3SeesAnEpochThatIsUsedTwice) {
  Submit("a");
  Run("a");
  FailOnce();
  ExpectNothingBroken();
  Take(Prepared(cluster_.WorkersOf("a")[0], "a"), [](StepResult& result) {
    JobRecord& job = Of(result, "a");
    job.epoch = job.attempts.back().Edit().epoch = 1;
    result.actions.clear();
  });
  EXPECT_THAT(Broken(), Contains("I3"));
}

TEST_F(CheckerTest, I3SeesAnEpochThatIsDispatchedUnwritten) {
  Submit("a", 1, [](StepResult& result) {
    for (Mutation& mutation : result.mutations) {
      if (auto* put = std::get_if<PutJob>(&mutation)) put->durable = false;
    }
  });
  EXPECT_THAT(Broken(), Contains("I3"));
}

TEST_F(CheckerTest, I3SeesAPrepareOfOtherSlotsThanWereAssigned) {
  Submit("a", 1, [](StepResult& result) { FindAction<Prepare>(result).ranks[0].slot = "cpu:1"; });
  EXPECT_THAT(Broken(), Contains("I3"));
}

TEST_F(CheckerTest, I4SeesACheckpointOfAStaleEpoch) {
  Submit("a");
  Run("a");
  FailOnce();
  SpoolReport stale = cluster_.Record("w0", "a", Saved(100));
  stale.epoch = 1;
  ASSERT_EQ(cluster_.Job("a").epoch, 2);
  CheckpointRecord checkpoint = Saved(100).checkpoint;
  checkpoint.job = "a";
  checkpoint.epoch = 1;
  checkpoint.state = CheckpointState::kCommitted;
  ExpectNothingBroken();
  Take(stale, [&](StepResult& result) {
    result.mutations.push_back(PutCheckpoint{std::make_shared<const CheckpointRecord>(checkpoint)});
  });
  EXPECT_THAT(Broken(), Contains("I4"));
}

TEST_F(CheckerTest, I4SeesMetricsOfAStaleEpoch) {
  Submit("a");
  Run("a");
  FailOnce();
  SpoolReport stale = cluster_.Record("w0", "a", MetricsReported{1, 100, 1, cluster_.now.wall, {}});
  stale.epoch = stale.attempt = 1;
  Take(stale, [&](StepResult& result) { result.mutations.push_back(AppendMetrics{"a", 1, 1}); });
  EXPECT_THAT(Broken(), Contains("I4"));
}

TEST_F(CheckerTest, I5SeesTwoGangsInOneSlot) {
  Submit("a");
  const RankPlacement held = cluster_.Job("a").attempts[0]->ranks[0];
  Submit("b", 1, [&](StepResult& result) {
    JobRecord& job = Of(result, "b");
    job.attempts[0].Edit().ranks = {held};
    job.attempts[0].Edit().members = {{held.worker}};
    result.actions.clear();
  });
  EXPECT_THAT(Broken(), Contains("I5"));
}

TEST_F(CheckerTest, I5SeesASlotThatIsGivenWhileRanksThatWereGivenUpHoldIt) {
  Take(Tick{}, [&](StepResult& result) {
    auto worker = std::make_shared<WorkerRecord>(cluster_.Worker("w0"));
    worker->orphans.push_back({"z", 1, {"cpu:0"}});
    result.mutations.push_back(PutWorker{worker});
  });
  ExpectNothingBroken();
  Submit("a", 1, [&](StepResult& result) {
    JobRecord& job = Of(result, "a");
    job.attempts[0].Edit().ranks = {{0, "w0", "cpu:0"}};
    job.attempts[0].Edit().members = {{"w0"}};
    result.actions.clear();
  });
  EXPECT_THAT(Broken(), Contains("I5"));
}

TEST_F(CheckerTest, I6SeesAnEndedJobThatLives) {
  Submit("a");
  Take(KillJob{{"user:ann"}, "a", ""});
  ExpectNothingBroken();
  Take(Tick{}, [&](StepResult& result) {
    auto job = std::make_shared<JobRecord>(cluster_.Job("a"));
    job->state = JobState::kQueued;
    job->message = "again";
    result.mutations.push_back(PutJob{job});
  });
  EXPECT_THAT(Broken(), Contains("I6"));
}

TEST_F(CheckerTest, I7SeesADispatchOfACancelledJob) {
  Submit("a");
  Run("a");
  Take(StopJob{{"user:ann"}, "a", ""});
  ExpectNothingBroken();
  Take(Tick{}, [&](StepResult& result) {
    const Attempt& attempt = *cluster_.Job("a").attempts[0];
    const RankPlacement& rank = attempt.ranks[0];
    result.actions.push_back(Prepare{rank.worker, "a", attempt.epoch, 1, 1, {{0, rank.slot, 0}}});
  });
  EXPECT_THAT(Broken(), testing::ElementsAre("I7"));
}

TEST_F(CheckerTest, I9SeesAResumeFromAnOlderCheckpoint) {
  Submit("a");
  Run("a");
  for (int images : {100, 200}) Report("w0", "a", Saved(images));
  FailOnce();
  ExpectNothingBroken();
  Take(Prepared(cluster_.WorkersOf("a")[0], "a"),
       [](StepResult& result) { FindAction<StartGang>(result).resume_candidates = {"ckpt-100"}; });
  EXPECT_THAT(Broken(), testing::ElementsAre("I9"));
}

TEST_F(CheckerTest, I10SeesARestartThatTheBudgetDoesNotPayFor) {
  Submit("a");
  for (int restart = 0; restart < 3; ++restart) {
    Run("a");
    FailOnce();
  }
  ExpectNothingBroken();
  Run("a");
  Report(cluster_.WorkersOf("a")[0], "a", AttemptEnded{{{0, 1}}, false, ""}, [&](StepResult& result) {
    JobRecord& job = Of(result, "a");
    EXPECT_EQ(job.reason, StatusReason::kRestartBudgetSpent);
    job.state = JobState::kQueued;
    job.not_before = cluster_.now.wall + absl::Seconds(1);
  });
  EXPECT_THAT(Broken(), testing::ElementsAre("I10"));
}

TEST_F(CheckerTest, I10SeesAJobThatFailsOfABudgetItHasNotSpent) {
  Submit("a");
  Run("a");
  FailOnce([](StepResult& result) {
    JobRecord& job = Of(result, "a");
    job.state = JobState::kFailed;
    job.reason = StatusReason::kRestartBudgetSpent;
  });
  EXPECT_THAT(Broken(), Contains("I10"));
}

TEST_F(CheckerTest, SeesAGangThatStartsInPart) {
  Submit("a", 4);
  Take(Prepared("w0", "a"), [&](StepResult& result) {
    result.actions.push_back(StartGang{"w0", "a", cluster_.Job("a").epoch, 1});
  });
  EXPECT_THAT(Broken(), testing::ElementsAre("gang"));
}

TEST_F(CheckerTest, SeesMetricsThatAreTakenTwice) {
  Submit("a");
  Run("a");
  const MetricsReported metrics{1, 100, 1, cluster_.now.wall, {}};
  Report("w0", "a", metrics);
  ExpectNothingBroken();
  Report("w0", "a", metrics);
  EXPECT_THAT(Broken(), testing::ElementsAre("metrics"));
}

TEST_F(CheckerTest, SeesAGapInTheAuditLog) {
  Submit("a", 9);
  Take(PauseJob{{"user:ann"}, "a", ""}, Drop<AppendEvent>);
  ExpectNothingBroken();
  Submit("b");
  EXPECT_THAT(Broken(), Contains("revisions"));
}

TEST_F(CheckerTest, SeesASpoolRecordThatIsLeftOut) {
  Submit("a");
  Run("a");
  Report("w0", "a", BytesStored{}, [](StepResult& result) { ++Find<SetSpoolAck>(result).sequence; });
  EXPECT_THAT(Broken(), testing::ElementsAre("spool"));
}

TEST_F(CheckerTest, SeesAGoodCheckpointThatIsCollected) {
  Submit("a");
  Run("a");
  for (int images : {100, 200, 300}) Report("w0", "a", Saved(images));
  ExpectNothingBroken();
  Take(Tick{}, [&](StepResult& result) {
    CheckpointRecord deleting = *cluster_.state.CheckpointsOf("a").rbegin()->second;
    deleting.state = CheckpointState::kDeleting;
    result.mutations.push_back(PutCheckpoint{std::make_shared<const CheckpointRecord>(deleting)});
  });
  EXPECT_THAT(Broken(), testing::ElementsAre("kept"));
}

TEST_F(CheckerTest, SeesAJobThatWaitsWithoutAReason) {
  Submit("a", 9, [](StepResult& result) { Of(result, "a").message.clear(); });
  checker_.CheckWhole(cluster_.state, store_);
  EXPECT_THAT(Broken(), testing::ElementsAre("reason"));
}

// All four devices are held by jobs that no other may stop, and `head` waits for one.
class ReservedTest : public CheckerTest {
 protected:
  ReservedTest() {
    for (const char* id : {"a", "b", "c", "d"}) {
      CreateJob busy = Cluster::Submission(id);
      busy.needs.preemptible = false;
      Take(busy);
    }
    Submit("head");
    EXPECT_EQ(cluster_.state.reservations().count("head"), 1u);
  }
};

TEST_F(ReservedTest, I12SeesAReservedDeviceGivenToAnotherJob) {
  const RankPlacement reserved = cluster_.state.reservations().at("head").ranks[0];
  ExpectNothingBroken();
  Submit("z", 2, [&](StepResult& result) {
    auto job = std::make_shared<JobRecord>(cluster_.Job("z"));
    job->state = JobState::kStarting;
    Attempt attempt;
    attempt.number = job->attempt_count = 1;
    attempt.epoch = job->epoch = 1;
    attempt.ranks = {{0, reserved.worker, reserved.slot}};
    attempt.members = {{reserved.worker}};
    job->attempts = {attempt};
    result.mutations.push_back(PutJob{job});
  });
  EXPECT_THAT(Broken(), Contains("I12"));
}

TEST_F(ReservedTest, I12SeesAHeadThatStartsLaterThanWasPredicted) {
  checker_.ExpectCalm();
  Take(Tick{}, nullptr, [&](StepResult& result) {
    Reservation reservation = cluster_.state.reservations().at("head");
    reservation.start_mono = cluster_.now.mono + absl::Seconds(5);
    result.mutations.push_back(PutReservation{reservation});
  });
  cluster_.Wait(absl::Seconds(8));
  for (const char* worker : {"w0", "w1"}) {
    Take(Heartbeat{worker, cluster_.Worker(worker).session, {}, cluster_.Worker(worker).roots});
  }
  checker_.CheckWhole(cluster_.state, store_);
  ExpectNothingBroken();
  cluster_.Wait(absl::Seconds(2));
  Take(Heartbeat{"w0", cluster_.Worker("w0").session, {}, cluster_.Worker("w0").roots});
  checker_.CheckWhole(cluster_.state, store_);
  EXPECT_THAT(Broken(), testing::ElementsAre("I12"));
}

TEST_F(CheckerTest, SeesAPreemptionOutOfTurn) {
  Submit("a");
  Run("a");
  ExpectNothingBroken();
  Submit("b", 9, [&](StepResult& result) {
    auto job = std::make_shared<JobRecord>(cluster_.Job("a"));
    job->state = JobState::kPausing;
    job->stop_cause = StopCause::kPreempt;
    result.mutations.push_back(PutJob{job});
  });
  EXPECT_THAT(Broken(), testing::ElementsAre("preempt"));
}

TEST_F(CheckerTest, SeesAStartBeyondTheQuota) {
  Take(SetQuota{{"user:ann"}, {"projects/default", 1, 0, std::nullopt}});
  Submit("a");
  ExpectNothingBroken();
  Take(SetQuota{{"user:ann"}, {"projects/default", 2, 0, std::nullopt}}, [](StepResult& result) {
    Find<PutQuota>(result).quota.devices = 1;  // As the checker is told; the core is not.
  });
  cluster_.state.Apply(PutQuota{{"projects/default", 2, 0, std::nullopt}});
  Submit("b");
  EXPECT_THAT(Broken(), testing::ElementsAre("quota"));
}

TEST_F(CheckerTest, SeesAShareThatCountsOtherDevicesThanAreHeld) {
  Submit("a", 2, [](StepResult& result) { Find<PutShare>(result).share.devices = 1; });
  checker_.CheckWhole(cluster_.state, store_);
  EXPECT_THAT(Broken(), testing::ElementsAre("counts"));
}

TEST_F(CheckerTest, SeesAChangeThatOnlyTheStateInMemoryHas) {
  Submit("a");
  Run("a");
  checker_.CheckWhole(cluster_.state, store_);
  ExpectNothingBroken();
  Report("w0", "a", AttemptEnded{{{0, 1}}, false, ""}, [](StepResult& result) {
    for (Mutation& mutation : result.mutations) {
      if (auto* put = std::get_if<PutJob>(&mutation)) put->durable = false;
    }
  });
  checker_.CheckWhole(cluster_.state, store_);
  EXPECT_THAT(Broken(), Contains("store"));
}

}  // namespace
}  // namespace p2::scheduler
