// The control plane over a real channel: order, quotas, bulk verbs, why, jobs made from jobs.
#include <limits>
#include <string>
#include <vector>

#include "p2/v1/event_service.grpc.pb.h"
#include "p2/v1/queue_service.grpc.pb.h"
#include "tests/server/rpc/server_fixture.h"

namespace p2::server {
namespace {

using p2::v1::ControlJobsRequest;
using p2::v1::Job;
using p2::v1::JobService;
using p2::v1::QueueService;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

class QueueServiceTest : public ServerFixture {
 protected:
  QueueServiceTest() : worker_(Prepare()), queues_(QueueService::NewStub(channel_)) {}
  ~QueueServiceTest() override {
    worker_.reset();
    StopServer();
  }

  std::string Make(bool paused = true, int devices = 1, int priority = 0) {
    p2::v1::CreateJobRequest request = TinyRequest(paused);
    request.add_overrides(absl::StrCat("resources.devices=", devices));
    request.set_priority(priority);
    const auto created = Create(request);
    EXPECT_TRUE(created.ok()) << created.status();
    return created.ok() ? created->job().name() : "";
  }
  absl::StatusOr<p2::v1::ControlJobsResponse> Control(const ControlJobsRequest& request) {
    return Call(*jobs_, &JobService::Stub::ControlJobs, request);
  }
  absl::StatusOr<p2::v1::JobExplanation> Why(const std::string& name) {
    p2::v1::ExplainJobRequest request;
    request.set_name(name);
    return Call(*jobs_, &JobService::Stub::ExplainJob, request);
  }

  std::unique_ptr<FakeWorker> worker_;
  std::unique_ptr<QueueService::Stub> queues_;
};

TEST_F(QueueServiceTest, ABatchIsMadeWholeOrNotAtAllAndOnlyOnce) {
  p2::v1::BatchCreateJobsRequest request;
  request.set_request_id("batch-1");
  for (int i = 0; i < 3; ++i) *request.add_requests() = TinyRequest();
  const auto made = Call(*jobs_, &JobService::Stub::BatchCreateJobs, request);
  ASSERT_TRUE(made.ok()) << made.status();
  ASSERT_THAT(made->jobs(), SizeIs(3));
  const auto again = Call(*jobs_, &JobService::Stub::BatchCreateJobs, request);
  ASSERT_TRUE(again.ok()) << again.status();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(again->jobs(i).name(), made->jobs(i).name());

  request.set_request_id("batch-2");
  request.mutable_requests(2)->set_queue("queues/nowhere");
  const auto refused = Call(*jobs_, &JobService::Stub::BatchCreateJobs, request);
  EXPECT_EQ(ReasonSeen(refused.status()), "QUEUE_NOT_FOUND");
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("job 3 of 3"));
  const auto list = Call(*jobs_, &JobService::Stub::ListJobs, p2::v1::ListJobsRequest());
  EXPECT_THAT(list->jobs(), SizeIs(3));
}

TEST_F(QueueServiceTest, AVerbMeetsAllJobsThatASelectorMeansInOneWrite) {
  p2::v1::CreateJobRequest red = TinyRequest(false);
  (*red.mutable_labels())["team"] = "red";
  std::vector<std::string> names;
  for (int i = 0; i < 4; ++i) names.push_back(Create(red)->job().name());  // Two start, two wait.
  const std::string other = Make();
  ControlJobsRequest request;
  request.set_verb(ControlJobsRequest::KILL);
  request.set_label_selector("team=red");
  request.set_validate_only(true);
  EXPECT_THAT(Control(request)->names(), SizeIs(4));
  EXPECT_NE(Get(names[3])->state(), Job::CANCELLED);
  request.set_validate_only(false);
  const auto killed = Control(request);
  ASSERT_TRUE(killed.ok()) << killed.status();
  EXPECT_THAT(killed->names(), UnorderedElementsAre(names[0], names[1], names[2], names[3]));
  EXPECT_EQ(Get(names[3])->state(), Job::CANCELLED);
  EXPECT_EQ(Get(other)->state(), Job::PAUSED);
}

TEST_F(QueueServiceTest, NamedJobsFailTogether) {
  const std::string paused = Make();
  ControlJobsRequest request;
  request.set_verb(ControlJobsRequest::RESUME);
  request.add_names(paused);
  request.add_names("jobs/nobody");
  EXPECT_EQ(ReasonSeen(Control(request).status()), "JOB_NOT_FOUND");
  EXPECT_EQ(Get(paused)->state(), Job::PAUSED);
  request.set_label_selector("a=b");
  EXPECT_THAT(std::string(Control(request).status().message()), HasSubstr("give one of them"));
}

TEST_F(QueueServiceTest, WhySaysWhatBlocksAndWhatWouldUnblock) {
  const std::string first = Make(false, 2);
  const std::string second = Make(false, 2);
  const auto why = Why(second);
  ASSERT_TRUE(why.ok()) << why.status();
  EXPECT_EQ(why->reason(), p2::v1::WAITING_FOR_DEVICES);
  EXPECT_EQ(why->position(), 1);
  EXPECT_EQ(why->devices_exist(), 2);
  EXPECT_EQ(why->devices_free(), 0);
  ASSERT_THAT(why->blockers(), SizeIs(1));
  EXPECT_EQ(why->blockers(0).resource(), first);
  EXPECT_THAT(why->unblock(), HasSubstr("starts when 2 devices that suit are free"));
  EXPECT_EQ(ReasonSeen(Why("jobs/nobody").status()), "JOB_NOT_FOUND");
}

TEST_F(QueueServiceTest, ADryRunForecastsAndMakesNothing) {
  p2::v1::CreateJobRequest request = TinyRequest(false);
  request.set_validate_only(true);
  const auto now = Create(request);
  ASSERT_TRUE(now.ok()) << now.status();
  ASSERT_THAT(now->forecast().placement(), SizeIs(1));
  EXPECT_EQ(now->forecast().placement(0).worker(), "workers/w0");
  Make(false, 2);
  const auto later = Create(request);
  EXPECT_THAT(later->forecast().placement(), IsEmpty());
  EXPECT_EQ(later->forecast().reason(), p2::v1::WAITING_FOR_DEVICES);
  EXPECT_THAT(Call(*jobs_, &JobService::Stub::ListJobs, p2::v1::ListJobsRequest())->jobs(), SizeIs(1));
}

TEST_F(QueueServiceTest, UpdatesChangeTheOrderAndAreAudited) {
  const std::string first = Make(false, 2);
  const std::string a = Make(false, 2), b = Make(false, 2);
  p2::v1::UpdateJobRequest update;
  update.set_name(b);
  update.set_request_id("r-7");
  update.set_priority(5);
  update.set_note("for the deadline");
  (*update.mutable_set_labels())["team"] = "red";
  const auto updated = Call(*jobs_, &JobService::Stub::UpdateJob, update);
  ASSERT_TRUE(updated.ok()) << updated.status();
  EXPECT_EQ(updated->priority(), 5);
  EXPECT_EQ(updated->note(), "for the deadline");
  p2::v1::DescribeQueueRequest describe;
  describe.set_name("queues/default");
  const auto queue = Call(*queues_, &QueueService::Stub::DescribeQueue, describe);
  ASSERT_TRUE(queue.ok()) << queue.status();
  std::vector<std::string> order;
  for (const auto& job : queue->jobs()) order.push_back(job.name());
  // The gang that was being formed makes room for the higher priority, and waits again in its old place.
  EXPECT_EQ(Get(b)->state(), Job::STARTING);
  EXPECT_EQ(Get(first)->preemptions(), 1);
  EXPECT_THAT(order, ElementsAre(first, a));
  update.set_priority(5000);
  EXPECT_THAT(std::string(Call(*jobs_, &JobService::Stub::UpdateJob, update).status().message()),
              HasSubstr("must be -1000 to 1000"));

  const auto events = p2::v1::EventService::NewStub(channel_);
  p2::v1::ListEventsRequest audit;
  audit.set_audit(true);
  audit.set_resource(b);
  const auto list = Call(*events, &p2::v1::EventService::Stub::ListEvents, audit);
  ASSERT_TRUE(list.ok()) << list.status();
  const p2::v1::Event& last = *list->events().rbegin();
  EXPECT_EQ(last.reason(), "JOB_UPDATED");
  EXPECT_EQ(last.actor(), "user:tester");
  EXPECT_EQ(last.request_id(), "r-7");
  EXPECT_THAT(last.before(), HasSubstr("priority 0"));
  EXPECT_THAT(last.after(), HasSubstr("priority 5"));
  for (const p2::v1::Event& event : list->events()) EXPECT_THAT(event.actor(), HasSubstr("user:"));
}

TEST_F(QueueServiceTest, QueuesAreMadeUsedChangedAndDeleted) {
  p2::v1::CreateQueueRequest create;
  create.mutable_queue()->set_name("queues/gold");
  (*create.mutable_queue()->mutable_node_selector())["pool"] = "gold";
  const auto made = Call(*queues_, &QueueService::Stub::CreateQueue, create);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->devices(), 0);  // The worker has no such label.
  EXPECT_EQ(ReasonSeen(Call(*queues_, &QueueService::Stub::CreateQueue, create).status()), "QUEUE_EXISTS");
  p2::v1::CreateJobRequest request = TinyRequest(false);
  request.set_queue("queues/gold");
  const std::string job = Create(request)->job().name();
  EXPECT_EQ(Get(job)->reason(), p2::v1::NOT_ENOUGH_DEVICES);
  EXPECT_EQ(Get(job)->queue(), "queues/gold");
  p2::v1::DeleteQueueRequest erase;
  erase.set_name("queues/gold");
  EXPECT_EQ(ReasonSeen(Call(*queues_, &QueueService::Stub::DeleteQueue, erase).status()), "QUEUE_IN_USE");
  p2::v1::UpdateQueueRequest update;
  update.mutable_queue()->set_name("queues/gold");
  ASSERT_TRUE(Call(*queues_, &QueueService::Stub::UpdateQueue, update).ok());  // All workers now.
  EXPECT_EQ(Get(job)->state(), Job::STARTING);
  const auto list = Call(*queues_, &QueueService::Stub::ListQueues, p2::v1::ListQueuesRequest());
  ASSERT_THAT(list->queues(), SizeIs(2));
  EXPECT_EQ(list->queues(0).name(), "queues/default");
  EXPECT_EQ(list->queues(1).running_jobs(), 1);
}

TEST_F(QueueServiceTest, QuotasAreSetShownKeptAndTakenAway) {
  p2::v1::SetQuotaRequest set;
  set.mutable_quota()->set_name("users/ann");
  set.mutable_quota()->set_devices(1);
  set.mutable_quota()->set_queued_jobs(1);
  ASSERT_TRUE(Call(*queues_, &QueueService::Stub::SetQuota, set).ok());
  Make(false);
  const std::string waits = Make(false);
  EXPECT_EQ(Get(waits)->reason(), p2::v1::QUOTA_EXCEEDED);
  EXPECT_EQ(ReasonSeen(Create(TinyRequest(false)).status()), "QUOTA_EXCEEDED");
  worker_.reset();
  StopServer();
  StartServer();  // The quota is on disk.
  worker_ = std::make_unique<FakeWorker>(channel_, HelloMessage());
  queues_ = QueueService::NewStub(channel_);
  const auto list = Call(*queues_, &QueueService::Stub::ListQuotas, p2::v1::ListQuotasRequest());
  ASSERT_TRUE(list.ok()) << list.status();
  ASSERT_THAT(list->quotas(), SizeIs(2));
  EXPECT_EQ(list->quotas(1).name(), "users/ann");
  EXPECT_EQ(list->quotas(1).devices(), 1);
  set.mutable_quota()->clear_devices();
  set.mutable_quota()->clear_queued_jobs();
  ASSERT_TRUE(Call(*queues_, &QueueService::Stub::SetQuota, set).ok());
  EXPECT_NE(Get(waits)->reason(), p2::v1::QUOTA_EXCEEDED);
  set.mutable_quota()->set_name("ann");
  EXPECT_THAT(std::string(Call(*queues_, &QueueService::Stub::SetQuota, set).status().message()),
              HasSubstr("must be users/{owner} or projects/{project}"));
}

TEST_F(QueueServiceTest, WeightsCountAndABadOneIsRefused) {
  p2::v1::SetWeightRequest set;
  set.set_id("default/ann");
  set.set_weight(2.5);
  const auto share = Call(*queues_, &QueueService::Stub::SetWeight, set);
  ASSERT_TRUE(share.ok()) << share.status();
  EXPECT_EQ(share->weight(), 2.5);
  for (const double bad : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    set.set_weight(bad);
    EXPECT_FALSE(Call(*queues_, &QueueService::Stub::SetWeight, set).ok()) << bad;
  }
}

TEST_F(QueueServiceTest, AJobIsResumedWithOtherDevicesAndPriority) {
  const std::string job = Make(true, 1);
  p2::v1::ResumeJobRequest resume;
  resume.set_name(job);
  resume.set_devices(9);  // The batch has 8 samples.
  EXPECT_THAT(std::string(Call(*jobs_, &JobService::Stub::ResumeJob, resume).status().message()),
              HasSubstr("resources.devices"));
  resume.set_devices(2);
  resume.set_priority(3);
  const auto resumed = Call(*jobs_, &JobService::Stub::ResumeJob, resume);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ(resumed->priority(), 3);
  EXPECT_EQ(resumed->devices_held(), 2);
}

TEST_F(QueueServiceTest, AClonedJobHasTheSpecAndTheChanges) {
  const std::string job = Make();
  p2::v1::CreateJobRequest request;
  request.mutable_derive_from()->set_kind(p2::v1::Lineage::CLONE);
  request.mutable_derive_from()->set_name(job);
  request.add_overrides("training.learning_rate=0.5");
  request.set_paused(true);
  const auto clone = Create(request);
  ASSERT_TRUE(clone.ok()) << clone.status();
  EXPECT_THAT(clone->job().name(), MatchesRegex("jobs/tiny-[a-z2-7]{5}"));
  EXPECT_EQ(clone->job().spec().training().learning_rate(), 0.5);
  EXPECT_EQ(clone->job().spec().model().model_channels(), 32);
  EXPECT_EQ(clone->job().lineage().kind(), p2::v1::Lineage::CLONE);
  EXPECT_EQ(clone->job().lineage().job(), job);
  EXPECT_EQ(clone->job().spec_origins().at("model"), "job " + job.substr(5));
}

TEST_F(QueueServiceTest, AForkNeedsACheckpointAndAnExtensionAnEnd) {
  const std::string job = Make();
  p2::v1::CreateJobRequest request;
  request.mutable_derive_from()->set_name(job);
  request.mutable_derive_from()->set_kind(p2::v1::Lineage::FORK);
  EXPECT_EQ(ReasonSeen(Create(request).status()), "CHECKPOINT_NOT_FOUND");
  request.mutable_derive_from()->set_kind(p2::v1::Lineage::EXTEND);
  EXPECT_EQ(ReasonSeen(Create(request).status()), "JOB_STATE_FORBIDS");
  request.set_preset("mnist-demo");
  EXPECT_THAT(std::string(Create(request).status().message()), HasSubstr("beside derive_from"));
}

}  // namespace
}  // namespace p2::server
