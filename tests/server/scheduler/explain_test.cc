// What `why` says, and what a job that is not there yet would meet.
#include "server/scheduler/explain.h"

#include "server/scheduler/queue_cursor.h"
#include "tests/server/scheduler/cluster.h"

namespace p2::scheduler {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ExplainTest : public testing::Test {
 protected:
  Explanation Why(const std::string& job) { return *Explain(cluster_.state, job, cluster_.now, cluster_.options); }
  void Rate(const std::string& job, double rate) {
    const JobRecord& record = cluster_.Job(job);
    cluster_.Must(Heartbeat{
        "w0", cluster_.Worker("w0").session, {{job, record.epoch, 0, rate, "step"}}, cluster_.Worker("w0").roots});
  }
  Cluster cluster_;
};

TEST_F(ExplainTest, NamesWhoHoldsTheDevicesAndWhenTheyComeFree) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  cluster_.Submit("runs", 2);
  cluster_.Run("runs");
  Rate("runs", 10);  // 1000 images: 100 s.
  cluster_.Submit("first", 2);
  cluster_.Submit("second", 2);
  const Explanation first = Why("first");
  EXPECT_EQ(first.reason, StatusReason::kWaitingForDevices);
  EXPECT_THAT(first.message, HasSubstr("needs 2 cpu devices; too few of those that suit are free; 0 of 2 are free"));
  EXPECT_EQ(first.position, 1);
  EXPECT_EQ(first.waiting, 2);
  EXPECT_EQ(first.devices_exist, 2);
  ASSERT_THAT(first.blockers, SizeIs(1));
  EXPECT_EQ(first.blockers[0].resource, "jobs/runs");
  EXPECT_THAT(first.blockers[0].why, HasSubstr("holds 2 devices, priority 0, ends in about 2 min"));
  EXPECT_EQ(first.earliest, absl::Seconds(100));
  EXPECT_EQ(first.latest, absl::Seconds(100));
  const Explanation second = Why("second");
  EXPECT_EQ(second.position, 2);
  EXPECT_THAT(second.message, HasSubstr("and 1 job before it"));
  EXPECT_THAT(second.blockers, Contains(Field(&Blocker::resource, "jobs/first")));
  EXPECT_EQ(second.latest, std::nullopt);  // Nobody knows how long `first` will run.
}

TEST_F(ExplainTest, NamesTheWorkersThatAreNotThere) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  cluster_.Must(CordonWorker{{"user:ann"}, "w0", "repair"});
  cluster_.Submit("job-a");
  const Explanation why = Why("job-a");
  EXPECT_EQ(why.reason, StatusReason::kNotEnoughDevices);
  EXPECT_THAT(why.message, HasSubstr("all ready workers together have 0"));
  ASSERT_THAT(why.blockers, SizeIs(1));
  EXPECT_EQ(why.blockers[0].resource, "workers/w0");
  EXPECT_THAT(why.blockers[0].why, HasSubstr("is cordoned: cordoned by user:ann: repair"));
  EXPECT_THAT(why.unblock, HasSubstr("starts when 1 more device that suits is offered"));
}

TEST_F(ExplainTest, ShowsTheNumbersOfFairShare) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 1));
  cluster_.Submit("runs");
  cluster_.Submit("waits");
  const Explanation why = Why("waits");
  ASSERT_THAT(why.shares, SizeIs(2));
  EXPECT_EQ(why.shares[0].id, "default");
  EXPECT_EQ(why.shares[0].devices, 1);
  EXPECT_DOUBLE_EQ(why.shares[0].score, 600);
}

TEST_F(ExplainTest, ForecastsWhatWouldHappenAndChangesNothing) {
  cluster_.Connect("w0", Cluster::Slots("cpu", 2));
  cluster_.Submit("runs");
  const auto now = ForecastNewJob(cluster_.state, Cluster::Submission("new"), cluster_.now, cluster_.options);
  ASSERT_TRUE(now.ok());
  EXPECT_THAT(now->placement, ElementsAre(RankPlacement{0, "w0", "cpu:1"}));
  const auto later = ForecastNewJob(cluster_.state, Cluster::Submission("new", 2), cluster_.now, cluster_.options);
  ASSERT_TRUE(later.ok());
  EXPECT_THAT(later->placement, IsEmpty());
  EXPECT_EQ(later->explanation.reason, StatusReason::kWaitingForDevices);
  EXPECT_EQ(later->explanation.position, 1);
  EXPECT_EQ(cluster_.state.FindJob("new"), nullptr);
}

TEST_F(ExplainTest, TheOrderFollowsPriorityThenSharesThenAge) {
  const auto submit = [&](const std::string& id, const std::string& owner, int priority) {
    CreateJob create = Cluster::Submission(id);
    create.owner = owner;
    create.priority = priority;
    cluster_.Must(create);
  };
  submit("ann-0", "ann", 0);
  submit("ann-1", "ann", 0);
  submit("bob-0", "bob", 0);
  submit("bob-urgent", "bob", 1);
  EXPECT_THAT(QueueOrder(cluster_.state, cluster_.now.mono, cluster_.options),
              ElementsAre("bob-urgent", "ann-0", "bob-0", "ann-1"));
}

}  // namespace
}  // namespace p2::scheduler
