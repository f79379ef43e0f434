// Jobs that start from another one's checkpoint: what they are told, and what is kept for them.
#include "tests/server/scheduler/cluster.h"

namespace p2::scheduler {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class StepSourcesTest : public testing::Test {
 protected:
  // job-a runs and has one checkpoint; a second slot is free.
  void SetUp() override {
    cluster_.Connect("w0", Cluster::Slots("cpu", 2));
    cluster_.Submit("job-a");
    cluster_.Run("job-a");
    cluster_.Commit("w0", "job-a", 100);
  }
  static CreateJob FromCheckpoint(const std::string& id, const std::string& checkpoint) {
    CreateJob create = Cluster::Submission(id);
    create.needs.source = {"data", "root-data", absl::StrCat("job-a/", checkpoint), "job-a", checkpoint, 100};
    return create;
  }
  static CreateJob Sampling(const std::string& id) {
    CreateJob create = FromCheckpoint(id, "ckpt-100");
    create.needs.dataset_root = create.needs.dataset_root_id = "";
    create.needs.writes_output = true;
    create.task = "a task";
    return create;
  }
  std::vector<std::string> Deleting() {
    std::vector<std::string> ids;
    for (const auto& [key, checkpoint] : cluster_.state.CheckpointsOf("job-a")) {
      if (checkpoint->state == CheckpointState::kDeleting) ids.push_back(checkpoint->id);
    }
    return ids;
  }

  Cluster cluster_;
};

TEST_F(StepSourcesTest, AWorkerIsToldWhatTheJobReadsAndDoes) {
  cluster_.Must(Sampling("job-b"));
  const std::vector<Prepare> prepares = cluster_.ActionsOf<Prepare>();
  ASSERT_EQ(prepares.size(), 1u);
  EXPECT_EQ(prepares[0].dataset_root, "");
  EXPECT_EQ(prepares[0].source_root_id, "root-data");
  EXPECT_EQ(prepares[0].source_path, "job-a/ckpt-100");
  EXPECT_TRUE(prepares[0].writes_output);
  cluster_.PrepareAll("job-b");
  const std::vector<StartGang> starts = cluster_.ActionsOf<StartGang>();
  ASSERT_EQ(starts.size(), 1u);
  EXPECT_EQ(starts[0].task, "a task");
}

TEST_F(StepSourcesTest, ACheckpointThatALiveJobBeganFromIsKept) {
  cluster_.Must(FromCheckpoint("job-b", "ckpt-100"));
  cluster_.Run("job-b");
  for (int64_t images : {200, 300, 400, 500}) cluster_.Commit("w0", "job-a", images);
  EXPECT_THAT(Deleting(), ElementsAre("ckpt-200"));
  // Also once it has one of its own: that may turn out damaged.
  cluster_.Commit("w0", "job-b", 50);
  cluster_.Commit("w0", "job-a", 600);
  EXPECT_THAT(Deleting(), ElementsAre("ckpt-200", "ckpt-300"));
  cluster_.Must(KillJob{{"user:ann"}, "job-b", ""});
  cluster_.EndRank("w0", "job-b", 137);
  cluster_.Commit("w0", "job-a", 700);
  EXPECT_THAT(Deleting(), ElementsAre("ckpt-100", "ckpt-200", "ckpt-300", "ckpt-400"));
}

TEST_F(StepSourcesTest, ATrainingWhoseOwnCheckpointIsDamagedBeginsFromItsSourceAgain) {
  cluster_.Must(KillJob{{"user:ann"}, "job-a", ""});
  cluster_.EndRank("w0", "job-a", 137);
  cluster_.Must(FromCheckpoint("job-b", "ckpt-100"));
  cluster_.Run("job-b");
  cluster_.Commit("w0", "job-b", 50);
  EXPECT_TRUE(absl::IsFailedPrecondition(cluster_.Do(DeleteJob{{"user:ann"}, "job-a"})));
  cluster_.Report("w0", "job-b", TrainerNotice{"CHECKPOINT_CORRUPT", cluster_.Job("job-b").latest_checkpoint, {}});
  cluster_.EndRank("w0", "job-b", 137);
  cluster_.Pass(absl::Seconds(5), {"w0"});
  EXPECT_EQ(cluster_.Job("job-b").state, JobState::kStarting);
  EXPECT_TRUE(cluster_.Job("job-b").ReadsSource());
}

TEST_F(StepSourcesTest, ACheckpointThatWasCollectedMeanwhileIsRefused) {
  for (int64_t images : {200, 300, 400}) cluster_.Commit("w0", "job-a", images);
  const absl::Status status = cluster_.Do(FromCheckpoint("job-b", "ckpt-100"));
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("p2ctl ckpt list job-a"));
  EXPECT_EQ(cluster_.state.FindJob("job-b"), nullptr);
}

TEST_F(StepSourcesTest, AJobIsNotDeletedWhileAnotherStartsFromIt) {
  cluster_.Must(Sampling("job-b"));
  cluster_.Run("job-b");
  cluster_.Must(KillJob{{"user:ann"}, "job-a", ""});
  cluster_.EndRank("w0", "job-a", 137);
  const absl::Status status = cluster_.Do(DeleteJob{{"user:ann"}, "job-a"});
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(status.message(), HasSubstr("job \"job-b\" began from its checkpoint"));
  cluster_.Must(KillJob{{"user:ann"}, "job-b", ""});
  cluster_.EndRank("w0", "job-b", 137);
  cluster_.Must(DeleteJob{{"user:ann"}, "job-a"});
  EXPECT_EQ(cluster_.state.FindJob("job-a"), nullptr);
}

TEST_F(StepSourcesTest, ATrainingWithACheckpointOfItsOwnNeedsItsSourceNoMore) {
  CreateJob create = FromCheckpoint("job-b", "ckpt-100");
  create.needs.source.root = "old";
  create.needs.source.root_id = "root-old";
  cluster_.Must(create);
  EXPECT_EQ(cluster_.Job("job-b").reason, StatusReason::kRootNotVisible);
  EXPECT_THAT(cluster_.Job("job-b").message, HasSubstr("roots data and old"));
  WorkerConnected event = cluster_.Hello("w1", Cluster::Slots("cpu", 1));
  event.hello.roots.push_back({"old", "root-old"});
  cluster_.Must(event);
  cluster_.Run("job-b");
  cluster_.Commit("w1", "job-b", 50);
  cluster_.Must(CordonWorker{{"user:ann"}, "w1", "", /*drain=*/true});
  cluster_.EndRank("w1", "job-b", 40);
  // It goes on where the source cannot be seen, and does not ask for it.
  ASSERT_THAT(cluster_.WorkersOf("job-b"), ElementsAre("w0"));
  EXPECT_EQ(cluster_.ActionsOf<Prepare>().back().source_root, "");
}

TEST_F(StepSourcesTest, ASourceThatIsNotThereCountsAndEndsTheJob) {
  CreateJob create = Sampling("job-b");
  create.needs.restart_budget = 1;
  cluster_.Must(create);
  for (int attempt = 1; attempt <= 2; ++attempt) {
    ASSERT_EQ(cluster_.Job("job-b").attempt_count, attempt);
    PrepareReply reply{"w0", "job-b", cluster_.Job("job-b").epoch, false, "no such file"};
    reply.source_missing = true;
    cluster_.Must(reply);
    cluster_.Pass(absl::Seconds(5), {"w0"});
  }
  EXPECT_EQ(cluster_.Job("job-b").state, JobState::kFailed);
  EXPECT_THAT(cluster_.Job("job-b").message, HasSubstr("no such file"));
}

TEST_F(StepSourcesTest, ASourceWhoseJobWasDeletedMeanwhileIsRefused) {
  CreateJob create = Sampling("job-b");
  create.needs.source.job = "job-gone";
  EXPECT_TRUE(absl::IsNotFound(cluster_.Do(create)));
  create.needs.source.checkpoint = "";  // As the source of an average.
  EXPECT_TRUE(absl::IsNotFound(cluster_.Do(create)));
}

TEST_F(StepSourcesTest, DrawingGoesOnWithTheKindThatItBeganWithAndRefillsTheBudget) {
  CreateJob create = Sampling("job-b");
  create.needs.kind = "";
  create.needs.images_total = 1000;
  cluster_.Must(create);
  cluster_.Run("job-b");
  cluster_.Report("w0", "job-b", TrainerStarted{0, "", {}});
  EXPECT_EQ(cluster_.Job("job-b").needs->kind, "cpu");
  cluster_.EndRank("w0", "job-b", 55);
  EXPECT_EQ(cluster_.Job("job-b").restarts_used, 1);
  cluster_.Pass(absl::Seconds(3), {"w0"});
  cluster_.Run("job-b");
  cluster_.Report("w0", "job-b", TrainerStarted{0, "", {}});
  EXPECT_EQ(cluster_.Job("job-b").restarts_used, 1);  // Nothing was drawn.
  cluster_.EndRank("w0", "job-b", 55);
  cluster_.Pass(absl::Seconds(5), {"w0"});
  cluster_.Run("job-b");
  cluster_.Report("w0", "job-b", TrainerStarted{400, "", {}});
  EXPECT_EQ(cluster_.Job("job-b").restarts_used, 0);
}

TEST_F(StepSourcesTest, TheOutputIsDeletedWithItsJob) {
  cluster_.Must(Sampling("job-b"));
  cluster_.Run("job-b");
  cluster_.Must(KillJob{{"user:ann"}, "job-b", ""});
  cluster_.EndRank("w0", "job-b", 137);
  cluster_.Must(DeleteJob{{"user:ann"}, "job-b"});
  EXPECT_THAT(cluster_.ActionsOf<DeletePath>(), ElementsAre(DeletePath{"w0", "root-data", "jobs/job-b/output"}));
  cluster_.Must(DeleteDone{"w0", "root-data", "jobs/job-b/output", ""});
  EXPECT_THAT(cluster_.state.deletions(), IsEmpty());
}

}  // namespace
}  // namespace p2::scheduler
