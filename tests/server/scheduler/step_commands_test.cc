// What people ask for: create, stop, kill, pause, resume, delete, cordon, drain, register.
#include "tests/server/scheduler/cluster.h"

namespace p2::scheduler {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

CommandInfo By(const std::string& request_id = "", const std::string& payload = "") {
  return {"user:ann", request_id, payload, std::nullopt};
}

class StepCommandsTest : public testing::Test {
 protected:
  // job-a runs on one of the two slots of w0.
  void SetUp() override {
    cluster_.Connect("w0", Cluster::Slots("cpu", 2));
    cluster_.Submit("job-a");
    cluster_.Run("job-a");
  }
  const JobRecord& JobA() { return cluster_.Job("job-a"); }

  Cluster cluster_;
};

TEST_F(StepCommandsTest, ARepeatedRequestGetsTheFirstAnswerAndMakesNoSecondJob) {
  CreateJob create = Cluster::Submission("job-b");
  create.info = By("request-1", "payload");
  cluster_.Must(create);
  const auto stored = cluster_.MutationsOf<PutRequest>();
  ASSERT_THAT(stored, SizeIs(1));
  EXPECT_EQ(stored[0].request.resource, "jobs/job-b");

  create.id = "job-c";
  create.info.previous = stored[0].request;
  const auto again = Step(cluster_.state, create, cluster_.now);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->answer, "jobs/job-b");
  EXPECT_THAT(again->mutations, IsEmpty());

  create.info.payload_sha256 = "other";
  EXPECT_TRUE(absl::IsAlreadyExists(cluster_.Do(create)));
}

TEST_F(StepCommandsTest, AFullDiskRefusesNewJobsAndLeavesRunningOnesAlone) {
  cluster_.Must(DiskState{true, "the data directory has 3 % free"});
  EXPECT_TRUE(absl::IsResourceExhausted(cluster_.Do(Cluster::Submission("job-b"))));
  EXPECT_EQ(JobA().state, JobState::kRunning);
  cluster_.Must(DiskState{false, ""});
  EXPECT_TRUE(cluster_.Do(Cluster::Submission("job-b")).ok());
}

TEST_F(StepCommandsTest, AFullDiskStartsNoAttempt) {
  cluster_.Submit("job-b", 2);
  cluster_.Must(DiskState{true, "the data directory has 3 % free"});
  cluster_.Must(KillJob{By(), "job-a", ""});
  cluster_.EndRank("w0", "job-a", 137);
  EXPECT_EQ(cluster_.Job("job-b").reason, StatusReason::kDiskFull);
  cluster_.Must(DiskState{false, ""});
  cluster_.Must(Tick{});
  EXPECT_EQ(cluster_.Job("job-b").state, JobState::kStarting);
}

TEST_F(StepCommandsTest, StopOfARunningJobAsksForACheckpointAndThenCancels) {
  cluster_.Must(StopJob{By(), "job-a", "enough"});
  EXPECT_EQ(JobA().state, JobState::kCancelling);
  EXPECT_THAT(cluster_.ActionsOf<StopAttempt>(), ElementsAre(StopAttempt{"w0", "job-a", 1, StopMode::kCheckpoint}));
  cluster_.Commit("w0", "job-a", 500);
  cluster_.EndRank("w0", "job-a", 40);
  EXPECT_EQ(JobA().state, JobState::kCancelled);
  EXPECT_EQ(JobA().reason, StatusReason::kStoppedByUser);
  EXPECT_EQ(JobA().latest_checkpoint, "ckpt-500");
  EXPECT_THAT(JobA().message, HasSubstr("enough"));
  EXPECT_EQ(JobA().attempts.back()->outcome, Outcome::kStopped);
}

TEST_F(StepCommandsTest, KillOverridesAStopThatIsUnderWay) {
  cluster_.Must(StopJob{By(), "job-a", ""});
  cluster_.Must(KillJob{By(), "job-a", ""});
  EXPECT_THAT(cluster_.ActionsOf<StopAttempt>(), ElementsAre(StopAttempt{"w0", "job-a", 1, StopMode::kKill}));
  cluster_.EndRank("w0", "job-a", 137);
  EXPECT_EQ(JobA().state, JobState::kCancelled);
  EXPECT_EQ(JobA().reason, StatusReason::kKilledByUser);
  EXPECT_EQ(JobA().restarts_used, 0);
}

TEST_F(StepCommandsTest, AQueuedOrPausedJobEndsAtOnce) {
  cluster_.Submit("job-b", 2);
  cluster_.Must(StopJob{By(), "job-b", ""});
  EXPECT_EQ(cluster_.Job("job-b").state, JobState::kCancelled);
  CreateJob paused = Cluster::Submission("job-c");
  paused.paused = true;
  cluster_.Must(paused);
  EXPECT_EQ(cluster_.Job("job-c").state, JobState::kPaused);
  cluster_.Must(KillJob{By(), "job-c", ""});
  EXPECT_EQ(cluster_.Job("job-c").state, JobState::kCancelled);
}

TEST_F(StepCommandsTest, AGangThatIsStillPreparedEndsAtOnceAndGivesItsSlotsBack) {
  cluster_.Submit("job-b");
  ASSERT_EQ(cluster_.Job("job-b").state, JobState::kStarting);
  cluster_.Submit("job-c");
  ASSERT_EQ(cluster_.Job("job-c").state, JobState::kQueued);
  cluster_.Must(StopJob{By(), "job-b", ""});
  EXPECT_EQ(cluster_.Job("job-b").state, JobState::kCancelled);
  EXPECT_EQ(cluster_.Job("job-c").state, JobState::kStarting);
}

TEST_F(StepCommandsTest, PauseKeepsThePlaceAndResumeContinuesFromTheNewestCheckpoint) {
  cluster_.Must(PauseJob{By(), "job-a", ""});
  EXPECT_EQ(JobA().state, JobState::kPausing);
  cluster_.Commit("w0", "job-a", 300);
  cluster_.EndRank("w0", "job-a", 40);
  EXPECT_EQ(JobA().state, JobState::kPaused);
  EXPECT_EQ(JobA().reason, StatusReason::kPausedByUser);
  cluster_.Must(ResumeJob{By(), "job-a"});
  ASSERT_EQ(JobA().state, JobState::kStarting);
  EXPECT_EQ(JobA().epoch, 2);
  EXPECT_THAT(JobA().attempts.back()->resume_candidates, ElementsAre("ckpt-300"));
  EXPECT_EQ(JobA().progress.images_seen, 300);
}

TEST_F(StepCommandsTest, ARunThatEndsBeforeItHearsOfThePauseHasSucceeded) {
  cluster_.Must(PauseJob{By(), "job-a", ""});
  cluster_.Report("w0", "job-a", TrainerFinished{TrainerFinished::Outcome::kDone, 0, 1000, ""});
  cluster_.EndRank("w0", "job-a", 0);
  EXPECT_EQ(JobA().state, JobState::kSucceeded);
}

TEST_F(StepCommandsTest, CommandsThatTheStateForbidsSaySo) {
  EXPECT_TRUE(absl::IsFailedPrecondition(cluster_.Do(ResumeJob{By(), "job-a"})));
  EXPECT_TRUE(absl::IsFailedPrecondition(cluster_.Do(DeleteJob{By(), "job-a"})));
  cluster_.Must(KillJob{By(), "job-a", ""});
  EXPECT_TRUE(absl::IsFailedPrecondition(cluster_.Do(PauseJob{By(), "job-a", ""})));
  cluster_.EndRank("w0", "job-a", 137);
  const absl::Status stop = cluster_.Do(StopJob{By(), "job-a", ""});
  EXPECT_TRUE(absl::IsFailedPrecondition(stop));
  EXPECT_THAT(std::string(stop.message()), HasSubstr("is CANCELLED"));
  EXPECT_TRUE(absl::IsNotFound(cluster_.Do(StopJob{By(), "job-x", ""})));
}

TEST_F(StepCommandsTest, DeleteRemovesTheJobAndItsCheckpointsFromTheRoot) {
  cluster_.Commit("w0", "job-a", 100);
  cluster_.Must(KillJob{By(), "job-a", ""});
  cluster_.EndRank("w0", "job-a", 137);
  cluster_.Must(DeleteJob{By(), "job-a"});
  EXPECT_EQ(cluster_.state.FindJob("job-a"), nullptr);
  const std::vector<std::string> paths{"job-a/ckpt-100", "jobs/job-a/ema-snapshots", "jobs/job-a/progress.csv",
                                       "jobs/job-a/tensorboard"};
  std::vector<DeletePath> expected;
  for (const std::string& path : paths) expected.push_back({"w0", "root-data", path});
  EXPECT_EQ(cluster_.ActionsOf<DeletePath>(), expected);
  EXPECT_THAT(cluster_.state.deletions(), SizeIs(4));
  for (const std::string& path : paths) cluster_.Must(DeleteDone{"w0", "root-data", path, ""});
  EXPECT_THAT(cluster_.state.deletions(), IsEmpty());
}

TEST_F(StepCommandsTest, DeleteOfAJobThatNeverStartedTouchesNoFile) {
  cluster_.Must(CordonWorker{By(), "w0", ""});
  cluster_.Submit("job-b");
  ASSERT_EQ(cluster_.Job("job-b").state, JobState::kQueued);
  cluster_.Must(KillJob{By(), "job-b", ""});
  cluster_.Must(DeleteJob{By(), "job-b"});
  EXPECT_THAT(cluster_.ActionsOf<DeletePath>(), IsEmpty());
}

TEST_F(StepCommandsTest, ADeletionThatFailedIsTriedAgainLaterByAnother) {
  cluster_.Commit("w0", "job-a", 100);
  cluster_.Must(KillJob{By(), "job-a", ""});
  cluster_.EndRank("w0", "job-a", 137);
  cluster_.Must(DeleteJob{By(), "job-a"});
  cluster_.Must(DeleteDone{"w0", "root-data", "job-a/ckpt-100", "permission denied"});
  cluster_.Wait(cluster_.options.delete_retry);
  cluster_.Must(Heartbeat{"w0", 1, {}, {{"data", "root-data"}}});
  cluster_.Must(Tick{});
  EXPECT_THAT(cluster_.ActionsOf<DeletePath>(), Contains(DeletePath{"w0", "root-data", "job-a/ckpt-100"}));
  cluster_.Must(cluster_.Hello("w1", Cluster::Slots("cpu", 1)));
  EXPECT_THAT(cluster_.ActionsOf<DeletePath>(), IsEmpty()) << "w0 is at it";
  cluster_.Must(DeleteDone{"w0", "root-data", "job-a/ckpt-100", "permission denied"});
  cluster_.Wait(cluster_.options.delete_retry);
  cluster_.Must(Heartbeat{"w0", 1, {}, {{"data", "root-data"}}});
  cluster_.Must(Tick{});
  EXPECT_THAT(cluster_.ActionsOf<DeletePath>(), Contains(DeletePath{"w1", "root-data", "job-a/ckpt-100"}));
}

TEST_F(StepCommandsTest, DeletionsAreSharedOutAmongThoseWhoSeeTheRoot) {
  cluster_.Must(cluster_.Hello("w1", Cluster::Slots("cpu", 1)));
  cluster_.Commit("w0", "job-a", 100);
  cluster_.Must(KillJob{By(), "job-a", ""});
  cluster_.EndRank("w0", "job-a", 137);
  cluster_.Must(DeleteJob{By(), "job-a"});
  std::map<std::string, int> asked;
  for (const DeletePath& path : cluster_.ActionsOf<DeletePath>()) ++asked[path.worker];
  EXPECT_EQ(asked, (std::map<std::string, int>{{"w0", 2}, {"w1", 2}}));
}

TEST_F(StepCommandsTest, ADeletionWhoseWorkerIsGoneIsGivenToTheNextThatConnects) {
  cluster_.Commit("w0", "job-a", 100);
  cluster_.Must(KillJob{By(), "job-a", ""});
  cluster_.EndRank("w0", "job-a", 137);
  cluster_.Must(DeleteJob{By(), "job-a"});
  const DeletePath on_w0{"w0", "root-data", "job-a/ckpt-100"}, on_w1{"w1", "root-data", "job-a/ckpt-100"};
  cluster_.Must(WorkerDisconnected{"w0", cluster_.Worker("w0").session});
  cluster_.Must(cluster_.Hello("w1", Cluster::Slots("cpu", 1)));
  EXPECT_THAT(cluster_.ActionsOf<DeletePath>(), Contains(on_w1));
  cluster_.Must(cluster_.Hello("w0", Cluster::Slots("cpu", 1)));
  EXPECT_THAT(cluster_.ActionsOf<DeletePath>(), IsEmpty());
  // The same worker is told again: its stream may have lost it.
  cluster_.Must(WorkerDisconnected{"w1", cluster_.Worker("w1").session});
  cluster_.Must(cluster_.Hello("w1", Cluster::Slots("cpu", 1)));
  EXPECT_THAT(cluster_.ActionsOf<DeletePath>(), Contains(on_w1));
  EXPECT_THAT(cluster_.ActionsOf<DeletePath>(), Not(Contains(on_w0)));
}

TEST_F(StepCommandsTest, ACordonedWorkerTakesNoNewGangAndKeepsWhatRuns) {
  cluster_.Must(CordonWorker{By(), "w0", "fan noise"});
  cluster_.Submit("job-b");
  EXPECT_EQ(cluster_.Job("job-b").reason, StatusReason::kNotEnoughDevices);
  EXPECT_EQ(cluster_.Job("job-b").reason, StatusReason::kNotEnoughDevices);
  EXPECT_EQ(JobA().state, JobState::kRunning);
  cluster_.Must(UncordonWorker{By(), "w0"});
  EXPECT_EQ(cluster_.Job("job-b").state, JobState::kStarting);
}

TEST_F(StepCommandsTest, ADrainCheckpointsAndMovesTheJobsElsewhere) {
  cluster_.Connect("w1", Cluster::Slots("cpu", 1));
  cluster_.Must(CordonWorker{By(), "w0", "", /*drain=*/true});
  EXPECT_EQ(JobA().state, JobState::kPausing);
  EXPECT_EQ(JobA().reason, StatusReason::kWorkerDrained);
  EXPECT_THAT(cluster_.ActionsOf<StopAttempt>(), ElementsAre(StopAttempt{"w0", "job-a", 1, StopMode::kCheckpoint}));
  cluster_.Commit("w0", "job-a", 200);
  cluster_.EndRank("w0", "job-a", 40);
  EXPECT_EQ(JobA().state, JobState::kStarting);
  EXPECT_EQ(JobA().attempts.front()->reason, StatusReason::kWorkerDrained);
  EXPECT_THAT(cluster_.WorkersOf("job-a"), ElementsAre("w1"));
  EXPECT_EQ(JobA().restarts_used, 0);
  EXPECT_EQ(JobA().attempts.front()->message, "its worker is drained");
  std::vector<std::string> said;
  for (const EventRecord& event : cluster_.events) said.push_back(event.message);
  EXPECT_THAT(said, Contains("attempt 1: stopped at 200 images, WORKER_DRAINED: its worker is drained"));
  EXPECT_THAT(said,
              Contains("PAUSING -> QUEUED (WORKER_DRAINED): its worker is drained; goes on elsewhere from 200 images"));
}

TEST_F(StepCommandsTest, ADatasetNameStandsForOneContent) {
  RegisterDataset set{By(), {"mnist", "data", "root-data", "sets/mnist", 32, 1, 5000, 1000, 0, "f1"}};
  cluster_.Must(set);
  cluster_.Must(set);
  EXPECT_THAT(cluster_.MutationsOf<PutDataset>(), IsEmpty());
  set.dataset.fingerprint = "f2";
  EXPECT_TRUE(absl::IsAlreadyExists(cluster_.Do(set)));
}

TEST_F(StepCommandsTest, TheSameContentElsewhereCorrectsThePlace) {
  RegisterDataset set{By(), {"mnist", "data", "root-data", "sets/mnist", 32, 1, 5000, 1000, 0, "f1"}};
  cluster_.Must(set);
  const absl::Time made = cluster_.state.FindDataset("mnist")->create_time;
  cluster_.Wait(absl::Seconds(5));
  set.dataset.path = "moved/mnist";
  set.dataset.root = "away";
  set.dataset.root_id = "root-away";
  cluster_.Must(set);
  const DatasetRecord& known = *cluster_.state.FindDataset("mnist");
  EXPECT_EQ(known.path, "moved/mnist");
  EXPECT_EQ(known.root, "away");
  EXPECT_EQ(known.root_id, "root-away");
  EXPECT_EQ(known.create_time, made);
  EXPECT_EQ(cluster_.events.back().reason, "DATASET_MOVED");
}

TEST_F(StepCommandsTest, ADatasetsRootIsWhatTheWorkersReport) {
  RegisterDataset set{By(), {"mnist", "away", "root-data", "sets/mnist", 32, 1, 5000, 1000, 0, "f1"}};
  const absl::Status other_name = cluster_.Do(set);
  EXPECT_TRUE(absl::IsFailedPrecondition(other_name)) << other_name;
  EXPECT_THAT(std::string(other_name.message()), HasSubstr("root root-data is \"data\" to the workers, not \"away\""));
  set.dataset.root = "data";
  set.dataset.root_id = "root-unknown";
  const absl::Status other_id = cluster_.Do(set);
  EXPECT_TRUE(absl::IsFailedPrecondition(other_id)) << other_id;
  EXPECT_THAT(std::string(other_id.message()), HasSubstr("root-unknown; the known roots are data (root-data)"));
  // Nobody sees it yet, and nobody says otherwise.
  set.dataset.root = "away";
  EXPECT_TRUE(cluster_.Do(set).ok());
}

}  // namespace
}  // namespace p2::scheduler
