// What equal jobs have in common in memory.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/scheduler/cluster.h"

namespace p2::scheduler {
namespace {

TEST(JobValuesTest, JobsThatAreAlikeHaveTheirNeedsAndDetailsInCommon) {
  Cluster cluster;
  cluster.Submit("a");
  cluster.Must(CreateJobs{{}, {Cluster::Submission("b"), Cluster::Submission("c"), Cluster::Submission("d", 2)}});
  EXPECT_TRUE(cluster.Job("b").needs.SharesWith(cluster.Job("a").needs));
  EXPECT_TRUE(cluster.Job("c").details.SharesWith(cluster.Job("a").details));
  EXPECT_EQ(cluster.Job("d").needs->devices, 2);
}

TEST(JobValuesTest, JobsOfOneBatchHaveInCommonWhatNoneBeforeThemHad) {
  Cluster cluster;
  cluster.Must(CreateJobs{{}, {Cluster::Submission("a"), Cluster::Submission("b")}});
  EXPECT_TRUE(cluster.Job("a").needs.SharesWith(cluster.Job("b").needs));
}

TEST(JobValuesTest, AChangeOfOneJobLeavesTheOthersAsTheyWere) {
  Cluster cluster;
  cluster.Submit("a");
  cluster.Submit("b");
  UpdateJob update;
  update.job = "a";
  update.note = "the good one";
  cluster.Must(update);
  EXPECT_EQ(cluster.Job("a").details->note, "the good one");
  EXPECT_EQ(cluster.Job("b").details->note, "");
}

TEST(JobValuesTest, ForgetsWhatNoJobHasAnyMore) {
  JobValues values;
  JobRecord kept;
  kept.details.Edit().note = "kept";
  values.Unify(kept);
  for (int i = 0; i < 1000; ++i) {
    JobRecord job;
    job.details.Edit().note = absl::StrCat("note ", i);
    values.Unify(job);
  }
  JobRecord gone, same;
  gone.details.Edit().note = "note 0";
  same.details.Edit().note = "kept";
  values.Lend(same);
  EXPECT_TRUE(same.details.SharesWith(kept.details));
  EXPECT_FALSE(values.Lend(gone));
}

TEST(SharedTest, AnEditIsSeenByItsHolderAlone) {
  Shared<std::string> one(std::string("text"));
  Shared<std::string> other = one;
  one.Edit() += " and more";
  EXPECT_EQ(*one, "text and more");
  EXPECT_EQ(*other, "text");
  const std::string* before = &*one;
  one.Edit() = "again";  // Nobody else has it: no copy.
  EXPECT_EQ(&*one, before);
}

TEST(SharedTest, WhatWasMovedFromHasTheDefaultValue) {
  Shared<std::string> one(std::string("text"));
  const Shared<std::string> other = std::move(one);
  EXPECT_EQ(*other, "text");
  EXPECT_EQ(*one, "");
}

}  // namespace
}  // namespace p2::scheduler
