#include <chrono>
#include <filesystem>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/rpc/server_fixture.h"

namespace p2::server {
namespace {

using p2::v1::Job;
using p2::v1::JobService;
using p2::v1::WatchJobsResponse;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::SizeIs;
using ::testing::StartsWith;

class JobServiceTest : public ServerFixture {
 protected:
  JobServiceTest() : worker_(Prepare()) {}
  ~JobServiceTest() override {
    worker_.reset();
    StopServer();
  }
  absl::StatusOr<Job> Stop(const std::string& name, const std::string& request_id = "") {
    p2::v1::StopJobRequest request;
    request.set_name(name);
    request.set_request_id(request_id);
    return Call(*jobs_, &JobService::Stub::StopJob, request);
  }

  std::unique_ptr<FakeWorker> worker_;
};

TEST_F(JobServiceTest, CreatesAJobWithEveryFieldResolved) {
  const auto created = Create(TinyRequest());
  ASSERT_TRUE(created.ok()) << created.status();
  const Job& job = created->job();
  EXPECT_THAT(job.name(), MatchesRegex("jobs/tiny-[a-z2-7]{5}"));
  EXPECT_EQ(job.state(), Job::PAUSED);
  EXPECT_EQ(job.owner(), "ann");
  EXPECT_FALSE(job.owner_verified());
  EXPECT_EQ(job.spec().training().batch(), 8);
  EXPECT_EQ(job.spec().diffusion().timesteps(), 1000);
  EXPECT_EQ(job.spec().checkpoint().root(), "data");
  EXPECT_EQ(job.spec_origins().at("checkpoint.root"), "dataset tiny");
  EXPECT_THAT(job.spec_origins().at("training.batch"), StartsWith("tiny.yaml:4"));
  EXPECT_THAT(job.spec_sha256(), SizeIs(64));
  EXPECT_GT(created->estimate().parameters(), 0);
  EXPECT_EQ(created->estimate().steps(), 125);
  const auto got = Get(job.name());
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->SerializeAsString().size(), job.SerializeAsString().size());
  EXPECT_EQ(got->etag(), job.etag());
  EXPECT_EQ(Get(job.name().substr(0, job.name().size() - 2))->name(), job.name());
}

TEST_F(JobServiceTest, StoresNothingWhenAskedToValidate) {
  p2::v1::CreateJobRequest request = TinyRequest();
  request.set_validate_only(true);
  const auto answer = Create(request);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->job().name(), "");
  EXPECT_EQ(answer->job().spec().training().images(), 1000);
  EXPECT_THAT(Call(*jobs_, &JobService::Stub::ListJobs, p2::v1::ListJobsRequest())->jobs(), SizeIs(0));
}

TEST_F(JobServiceTest, GivesTheSameAnswerToARepeatedRequest) {
  p2::v1::CreateJobRequest request = TinyRequest();
  request.set_request_id("8f14e45f");
  const auto first = Create(request);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(Create(request)->job().name(), first->job().name());
  request.set_owner("bob");
  EXPECT_EQ(Create(request).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(ReasonSeen(Create(request).status()), "REQUEST_ID_REUSED");
  EXPECT_THAT(Call(*jobs_, &JobService::Stub::ListJobs, p2::v1::ListJobsRequest())->jobs(), SizeIs(1));
}

TEST_F(JobServiceTest, NamesEveryBadFieldAtOnceWithItsPlace) {
  p2::v1::CreateJobRequest request = TinyRequest();
  request.set_spec_yaml(std::string(kTinySpec) + "objective: {gamma: -1, k: -2}\n");
  request.add_overrides("training.learning_rat=1");
  const absl::Status status = Create(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("objective.gamma"), HasSubstr("objective.k"), HasSubstr("tiny.yaml:5"),
                                      HasSubstr("learning_rate")));
  const auto detail = GetDetail<google::rpc::BadRequest>(status);
  ASSERT_TRUE(detail.has_value());
  EXPECT_GE(detail->field_violations_size(), 3);
  EXPECT_EQ(ReasonSeen(status), "INVALID_SPEC");
}

TEST_F(JobServiceTest, SaysWhatIsWrongWithTheDataset) {
  p2::v1::CreateJobRequest request = TinyRequest();
  request.add_overrides("data.dataset=tinny");
  absl::Status status = Create(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("tinny"), HasSubstr("p2ctl dataset list"), HasSubstr("\"tiny\"")));
  EXPECT_EQ(GetDetail<google::rpc::ResourceInfo>(status)->resource_name(), "tinny");
  EXPECT_EQ(ReasonSeen(status), "DATASET_NOT_FOUND");

  ASSERT_TRUE(RegisterTiny("big", 32).ok());
  request = TinyRequest();
  request.add_overrides("data.dataset=big");
  status = Create(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("32"), HasSubstr("16"), HasSubstr("--resolution")));

  ASSERT_TRUE(RegisterTiny("few", 16, 7).ok());
  request = TinyRequest();
  request.add_overrides("data.dataset=few");
  EXPECT_THAT(Create(request).status().message(), AllOf(HasSubstr("7 images"), HasSubstr("training.batch (8)")));

  request = TinyRequest();
  request.add_overrides("checkpoint.root=elsewhere");
  status = Create(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("elsewhere"), HasSubstr("--root")));
  EXPECT_EQ(ReasonSeen(status), "ROOT_NOT_VISIBLE");
}

TEST_F(JobServiceTest, SaysEverythingThatIsWrongWithTheDatasetAtOnce) {
  ASSERT_TRUE(RegisterTiny("odd", 32, 7).ok());
  p2::v1::CreateJobRequest request = TinyRequest();
  request.add_overrides("data.dataset=odd");
  request.add_overrides("model.in_channels=3");
  request.add_overrides("checkpoint.root=elsewhere");
  const absl::Status status = Create(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonSeen(status), "DATASET_MISMATCH");
  EXPECT_THAT(status.message(), AllOf(HasSubstr("32 pixels"), HasSubstr("has 1 channels"), HasSubstr("7 images"),
                                      HasSubstr("\"elsewhere\"")));
  const auto detail = GetDetail<google::rpc::PreconditionFailure>(status);
  ASSERT_TRUE(detail.has_value());
  std::vector<std::string> types;
  for (const auto& violation : detail->violations()) {
    types.push_back(violation.type());
  }
  EXPECT_THAT(types, testing::ElementsAre("RESOLUTION", "CHANNELS", "IMAGE_COUNT", "ROOT_NOT_VISIBLE"));
}

TEST_F(JobServiceTest, RandomCropsWantALargerDataset) {
  ASSERT_TRUE(RegisterTiny("large", 40, 100).ok());
  p2::v1::CreateJobRequest request = TinyRequest();
  request.add_overrides("data.dataset=large");
  request.add_overrides("model.image_size=32");
  request.add_overrides("data.random_crop=true");
  EXPECT_TRUE(Create(request).ok()) << Create(request).status();
  request.add_overrides("data.min_crop_fraction=0.75");
  const absl::Status status = Create(request).status();
  EXPECT_EQ(ReasonSeen(status), "DATASET_MISMATCH");
  EXPECT_THAT(status.message(), HasSubstr("has images of 40 pixels, but data.random_crop cuts 32 out of up to 43: "
                                          "prepare it with --resolution 43 or more"));
}

TEST_F(JobServiceTest, NamesTheNearestPreset) {
  p2::v1::CreateJobRequest request;
  request.set_preset("no-such-preset");
  EXPECT_EQ(Create(request).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonSeen(Create(request).status()), "PRESET_NOT_FOUND");
}

TEST_F(JobServiceTest, StopsAJobOnceAndSaysSoTheSecondTime) {
  const std::string name = Create(TinyRequest())->job().name();
  const auto stopped = Stop(name, "stop-1");
  ASSERT_TRUE(stopped.ok()) << stopped.status();
  EXPECT_EQ(stopped->state(), Job::CANCELLED);
  EXPECT_EQ(Stop(name, "stop-1")->state(), Job::CANCELLED);
  EXPECT_EQ(Stop(name).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ReasonSeen(Stop(name).status()), "JOB_STATE_FORBIDS");
  EXPECT_EQ(Stop("jobs/none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ReasonSeen(Stop("jobs/none").status()), "JOB_NOT_FOUND");
  EXPECT_EQ(Stop("none").status().code(), absl::StatusCode::kInvalidArgument);
  p2::v1::DeleteJobRequest request;
  request.set_name(name);
  EXPECT_TRUE(Call(*jobs_, &JobService::Stub::DeleteJob, request).ok());
  EXPECT_EQ(Get(name).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(JobServiceTest, PagesThroughLiveAndEndedJobsNewestFirst) {
  std::vector<std::string> names;
  for (int i = 0; i < 7; ++i) {
    p2::v1::CreateJobRequest request = TinyRequest();
    (*request.mutable_labels())["parity"] = i % 2 == 0 ? "even" : "odd";
    names.insert(names.begin(), Create(request)->job().name());
    if (i % 3 == 0) {
      ASSERT_TRUE(Stop(names.front()).ok());
    }
  }
  p2::v1::ListJobsRequest request;
  request.set_page_size(2);
  std::vector<std::string> listed;
  do {
    const auto page = Call(*jobs_, &JobService::Stub::ListJobs, request);
    ASSERT_TRUE(page.ok()) << page.status();
    EXPECT_LE(page->jobs_size(), 2);
    for (const Job& job : page->jobs()) listed.push_back(job.name());
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(listed, names);

  request.Clear();
  request.set_label_selector("parity=even");
  request.add_states(Job::CANCELLED);
  const auto filtered = Call(*jobs_, &JobService::Stub::ListJobs, request);
  EXPECT_THAT(filtered->jobs(), SizeIs(2));  // 0 and 6.

  request.set_page_token("forged");
  EXPECT_EQ(ReasonSeen(Call(*jobs_, &JobService::Stub::ListJobs, request).status()), "PAGE_TOKEN_INVALID");
}

TEST_F(JobServiceTest, WatchesTheStateAndThenEveryChangeInOrder) {
  const std::string name = Create(TinyRequest())->job().name();
  const std::string ended = Create(TinyRequest())->job().name();
  ASSERT_TRUE(Stop(ended).ok());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const auto reader = jobs_->WatchJobs(&context, p2::v1::WatchJobsRequest());
  WatchJobsResponse message;
  std::set<std::string> present;
  int64_t revision = 0;
  while (reader->Read(&message) && message.type() == WatchJobsResponse::STATE) {
    present.insert(message.job().name());
    EXPECT_GE(message.revision(), revision);
    revision = message.revision();
  }
  EXPECT_EQ(message.type(), WatchJobsResponse::PROGRESS);
  EXPECT_THAT(present, testing::UnorderedElementsAre(name, ended));
  ASSERT_TRUE(Stop(name).ok());
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_EQ(message.job().name(), name);
  EXPECT_EQ(message.job().state(), Job::CANCELLED);
  EXPECT_GT(message.revision(), revision);
  context.TryCancel();

  // A second reader takes up where the first one was.
  grpc::ClientContext again;
  again.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  p2::v1::WatchJobsRequest request;
  request.set_start_revision(message.revision());
  const auto resumed = jobs_->WatchJobs(&again, request);
  ASSERT_TRUE(resumed->Read(&message));
  EXPECT_EQ(message.job().state(), Job::CANCELLED);
  again.TryCancel();
}

TEST_F(JobServiceTest, AWatchWithoutNewsSaysWhereItStands) {
  StopServer();
  options_.watch_interval = absl::Milliseconds(20);
  StartServer();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const auto reader = jobs_->WatchJobs(&context, p2::v1::WatchJobsRequest());
  WatchJobsResponse first, second;
  ASSERT_TRUE(reader->Read(&first));
  ASSERT_TRUE(reader->Read(&second));
  EXPECT_EQ(second.type(), WatchJobsResponse::PROGRESS);
  EXPECT_EQ(second.revision(), first.revision());
  context.TryCancel();
}

TEST_F(JobServiceTest, WatchesHoldNoThreadAndEachGetsEveryChange) {
  constexpr int kWatches = 60;
  const auto threads = [] {
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    return std::distance(begin(tasks), end(tasks));
  };
  struct Watcher {
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<WatchJobsResponse>> reader;
    WatchJobsResponse message;
  };
  std::vector<std::unique_ptr<Watcher>> watchers;
  const auto before = threads();
  for (int i = 0; i < kWatches; ++i) {
    Watcher& watcher = *watchers.emplace_back(std::make_unique<Watcher>());
    watcher.context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    watcher.reader = jobs_->WatchJobs(&watcher.context, p2::v1::WatchJobsRequest());
    ASSERT_TRUE(watcher.reader->Read(&watcher.message));
    EXPECT_EQ(watcher.message.type(), WatchJobsResponse::PROGRESS);
  }
  EXPECT_LT(threads(), before + kWatches / 2);
  const std::vector<std::string> names = {Create(TinyRequest())->job().name(), Create(TinyRequest())->job().name()};
  for (const auto& watcher : watchers) {
    std::vector<std::string> seen;
    while (seen != names && watcher->reader->Read(&watcher->message)) {
      const Job& job = watcher->message.job();
      EXPECT_EQ(job.spec().name(), "tiny");
      if (seen.empty() || seen.back() != job.name()) seen.push_back(job.name());
    }
    EXPECT_EQ(seen, names);
    watcher->context.TryCancel();
  }
}

TEST_F(JobServiceTest, WatchesEndWithTheServer) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  const auto reader = jobs_->WatchJobs(&context, p2::v1::WatchJobsRequest());
  WatchJobsResponse message;
  ASSERT_TRUE(reader->Read(&message));
  StopServer();
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(ReasonSeen(FromGrpcStatus(reader->Finish())), "SHUTTING_DOWN");
}

TEST_F(JobServiceTest, SaysThatBytesAreNoMessage) {
  p2::v1::CreateJobRequest request = TinyRequest();
  request.set_note("\xff");
  EXPECT_EQ(ReasonSeen(Create(request).status()), "INVALID_REQUEST");
}

TEST_F(JobServiceTest, ACallWithoutADeadlineGetsOne) {
  StopServer();
  options_.call_timeout = absl::Nanoseconds(1);
  StartServer();
  const std::unique_ptr<FakeWorker> worker = Prepare();
  absl::Status status;
  for (int i = 0; i < 100 && status.ok(); ++i) {  // The alarm may lose against one answer, not against all.
    grpc::ClientContext context;
    p2::v1::CreateJobResponse response;
    status = FromGrpcStatus(jobs_->CreateJob(&context, TinyRequest(), &response));
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(status.message(), HasSubstr("no answer within 1ns"));
}

TEST_F(JobServiceTest, RefusesAMessageThatIsTooBigAndNamesTheLimit) {
  p2::v1::CreateJobRequest request = TinyRequest();
  request.set_spec_yaml(std::string(5 << 20, '#'));
  const absl::Status status = Create(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("4194304"));
  EXPECT_EQ(ReasonSeen(status), "MESSAGE_TOO_BIG");
  request.set_spec_yaml(std::string(300 * 1024, '#'));
  EXPECT_THAT(Create(request).status().message(), HasSubstr("262144"));
}

TEST_F(JobServiceTest, RefusesNewJobsWhileTheDiskIsNearlyFullAndReadsGoOn) {
  const std::string name = Create(TinyRequest())->job().name();
  free_bytes_ = 10;
  p2::v1::CreateJobRequest request = TinyRequest();
  absl::Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) status = Create(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ReasonSeen(status), "DISK_FULL");
  EXPECT_THAT(status.message(), HasSubstr("p2ctl delete"));
  EXPECT_TRUE(Get(name).ok());
  free_bytes_ = 900;
  for (int i = 0; i < 1000 && !status.ok(); ++i) status = Create(request).status();
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(JobServiceTest, KeepsWhatItAcknowledgedOverARestart) {
  p2::v1::CreateJobRequest request = TinyRequest();
  request.set_request_id("r-1");
  const Job job = Create(request)->job();
  const Job ended = *Stop(Create(TinyRequest())->job().name());
  worker_.reset();
  StopServer();
  StartServer();
  EXPECT_EQ(Get(job.name())->state(), Job::PAUSED);
  EXPECT_EQ(Get(job.name())->spec_sha256(), job.spec_sha256());
  EXPECT_EQ(Get(ended.name())->state(), Job::CANCELLED);
  EXPECT_EQ(Create(request)->job().name(), job.name());
}

}  // namespace
}  // namespace p2::server
