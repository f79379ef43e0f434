// What trainers report: exactly once, at the current epoch only; checkpoints and their retention.
#include "tests/server/scheduler/cluster.h"

namespace p2::scheduler {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class StepReportsTest : public testing::Test {
 protected:
  void SetUp() override {
    cluster_.Connect("w0", Cluster::Slots("cpu", 1));
    cluster_.Submit("job-a");
    cluster_.Run("job-a");
  }
  const JobRecord& JobA() { return cluster_.Job("job-a"); }
  void RunAgain(int exit_code) {
    cluster_.EndRank("w0", "job-a", exit_code);
    cluster_.Pass(absl::Seconds(2), {"w0"});
    cluster_.Run("job-a");
  }
  std::vector<std::string> In(CheckpointState state) {
    std::vector<std::string> ids;
    for (const auto& [key, checkpoint] : cluster_.state.CheckpointsOf("job-a")) {
      if (checkpoint->state == state) ids.push_back(checkpoint->id);
    }
    return ids;
  }

  Cluster cluster_;
};

TEST_F(StepReportsTest, ARecordIsTakenOnceHoweverOftenItComes) {
  const SpoolReport metrics =
      cluster_.Record("w0", "job-a", MetricsReported{3, 128, 16, cluster_.now.wall, {{"loss", 0.5}}});
  cluster_.Must(metrics);
  EXPECT_THAT(cluster_.MutationsOf<AppendMetrics>(), SizeIs(1));
  EXPECT_EQ(JobA().progress.loss, 0.5);
  cluster_.Must(metrics);
  EXPECT_THAT(cluster_.mutations, IsEmpty());
}

TEST_F(StepReportsTest, ALeftOutRecordIsAnError) {
  SpoolReport report = cluster_.Record("w0", "job-a", BytesStored{});
  ++report.sequence;
  EXPECT_TRUE(absl::IsFailedPrecondition(cluster_.Do(report)));
}

TEST_F(StepReportsTest, AStaleEpochCommitsNothingAndIsAcknowledged) {
  RunAgain(50);
  CheckpointReported reported;
  reported.checkpoint.id = "ckpt-999";
  reported.checkpoint.images_seen = 999;
  SpoolReport stale = cluster_.Record("w0", "job-a", reported);
  stale.epoch = 1;
  cluster_.Must(stale);
  EXPECT_THAT(cluster_.refused, HasSubstr("stale epoch 1, current 2"));
  EXPECT_THAT(In(CheckpointState::kCommitted), IsEmpty());
  EXPECT_EQ(cluster_.Worker("w0").spool_acked, stale.sequence);
}

TEST_F(StepReportsTest, AWorkerCannotReportAJobThatItNeverHad) {
  cluster_.Connect("w1", Cluster::Slots("cpu", 1));
  cluster_.Commit("w1", "job-a", 777);
  EXPECT_THAT(cluster_.refused, HasSubstr("never was there"));
  EXPECT_THAT(In(CheckpointState::kCommitted), IsEmpty());
}

TEST_F(StepReportsTest, ARollbackSupersedesTheAbandonedTail) {
  cluster_.Commit("w0", "job-a", 200);
  RunAgain(50);
  cluster_.Report("w0", "job-a", TrainerStarted{200, "ckpt-200", {{"torch", "2.11.0"}}});
  const auto superseded = cluster_.MutationsOf<SupersedeMetrics>();
  ASSERT_THAT(superseded, SizeIs(1));
  EXPECT_EQ(superseded[0].attempt, 2);
  EXPECT_EQ(superseded[0].images_seen, 200);
  EXPECT_EQ(JobA().attempts.back()->resumed_from, "ckpt-200");
}

TEST_F(StepReportsTest, KeepsTheLastOnesAndDeletesTheRest) {
  for (int64_t images : {100, 200, 300, 400, 500}) cluster_.Commit("w0", "job-a", images);
  EXPECT_THAT(In(CheckpointState::kCommitted), ElementsAre("ckpt-300", "ckpt-400", "ckpt-500"));
  EXPECT_THAT(In(CheckpointState::kDeleting), ElementsAre("ckpt-100", "ckpt-200"));
  EXPECT_THAT(cluster_.ActionsOf<DeletePath>(), ElementsAre(DeletePath{"w0", "root-data", "job-a/ckpt-200"}));
  cluster_.Must(DeleteDone{"w0", "root-data", "job-a/ckpt-100", ""});
  EXPECT_THAT(In(CheckpointState::kDeleting), ElementsAre("ckpt-200"));
}

TEST_F(StepReportsTest, NeverDeletesWhatAStartingAttemptMayLoad) {
  for (int64_t images : {100, 200, 300}) cluster_.Commit("w0", "job-a", images);
  RunAgain(50);
  EXPECT_THAT(JobA().attempts.back()->resume_candidates, ElementsAre("ckpt-300", "ckpt-200", "ckpt-100"));
  cluster_.Commit("w0", "job-a", 400);
  EXPECT_THAT(In(CheckpointState::kDeleting), IsEmpty());
  cluster_.Report("w0", "job-a", TrainerStarted{300, "ckpt-300", {}});
  EXPECT_THAT(In(CheckpointState::kDeleting), ElementsAre("ckpt-100"));
}

TEST_F(StepReportsTest, ACorruptCheckpointIsNeverOfferedAgainAndTheFallbackIsReported) {
  for (int64_t images : {100, 200}) cluster_.Commit("w0", "job-a", images);
  RunAgain(50);
  cluster_.Report("w0", "job-a",
                  TrainerNotice{"CHECKPOINT_CORRUPT", "ckpt-200: digest of model.safetensors differs", {}});
  EXPECT_THAT(In(CheckpointState::kCorrupt), ElementsAre("ckpt-200"));
  EXPECT_EQ(JobA().latest_checkpoint, "ckpt-100");
  cluster_.Report("w0", "job-a", TrainerStarted{100, "ckpt-100", {}});
  EXPECT_THAT(cluster_.EventReasons(), Contains("CHECKPOINT_FALLBACK"));
  RunAgain(50);
  EXPECT_THAT(JobA().attempts.back()->resume_candidates, ElementsAre("ckpt-100"));
}

TEST_F(StepReportsTest, EveryLaterAttemptIsToldWhichSamplesToPassOver) {
  cluster_.Report("w0", "job-a", TrainerNotice{"DATA_SKIPPED", "not finite", {{400, 424}}});
  EXPECT_THAT(cluster_.EventReasons(), Contains("DATA_SKIPPED"));
  RunAgain(50);
  // What touches becomes one range, the same notice twice changes nothing, nonsense counts for nothing.
  cluster_.Report(
      "w0", "job-a",
      TrainerNotice{"DATA_SKIPPED", "again", {{900, 908}, {424, 432}, {400, 424}, {7, 7}, {9, 3}, {-8, 0}}});
  const std::vector<SampleRange> all = {{400, 432}, {900, 908}};
  EXPECT_EQ(JobA().skipped_ranges, all);
  cluster_.EndRank("w0", "job-a", 50);
  cluster_.Pass(absl::Seconds(2), {"w0"});
  cluster_.Must(PrepareReply{"w0", "job-a", JobA().epoch, true, "", "10.0.0.1", 7000});
  ASSERT_THAT(cluster_.ActionsOf<StartGang>(), SizeIs(1));
  EXPECT_EQ(cluster_.ActionsOf<StartGang>()[0].skipped_ranges, all);
}

TEST_F(StepReportsTest, RevisionsRiseWithEveryChange) {
  const int64_t before = JobA().revision;
  cluster_.Must(Heartbeat{"w0", 1, {{"job-a", 1, 64, 10.5, "step"}}, {{"data", "root-data"}}});
  EXPECT_GT(JobA().revision, before);
  EXPECT_EQ(JobA().progress.images_seen, 64);
  for (size_t i = 0; i < cluster_.events.size(); ++i)
    EXPECT_EQ(cluster_.events[i].revision, static_cast<int64_t>(i + 1));
}

}  // namespace
}  // namespace p2::scheduler
