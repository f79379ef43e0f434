#include "server/coordinator/coordinator.h"

#include <atomic>
#include <filesystem>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/store/blob_store.h"
#include "server/store/job_store.h"
#include "server/store/memory_job_store.h"

namespace p2::coordinator {
namespace {

using ::testing::IsEmpty;
using ::testing::MatchesRegex;
using ::testing::SizeIs;

class FakeClock : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixSeconds(1'700'000'000) + passed(); }
  absl::Time Monotonic() const override { return absl::FromUnixSeconds(1000) + passed(); }
  void Advance(absl::Duration time) { passed_ms_ += absl::ToInt64Milliseconds(time); }

 private:
  absl::Duration passed() const { return absl::Milliseconds(passed_ms_.load()); }
  std::atomic<int64_t> passed_ms_ = 0;
};

// A store whose writes a test can watch and break.
class WatchedStore : public store::JobStore {
 public:
  explicit WatchedStore(store::JobStore& base) : base_(base) {}

  std::function<absl::Status(absl::Span<const scheduler::Mutation>)> before_write;
  // On the thread that has thinned, before its result is seen.
  std::function<absl::Status()> before_thinning_ends;

  absl::StatusOr<store::PersistedState> Load() override { return base_.Load(); }
  absl::Status Apply(absl::Span<const scheduler::Mutation> mutations) override {
    if (before_write) {
      if (absl::Status status = before_write(mutations); !status.ok()) return status;
    }
    return base_.Apply(mutations);
  }
  absl::StatusOr<std::vector<store::ThinnedChunk>> PrepareThinning(absl::Time older_than,
                                                                   absl::Duration budget) const override {
    auto chunks = base_.PrepareThinning(older_than, budget);
    const absl::Status status = before_thinning_ends ? before_thinning_ends() : absl::OkStatus();
    absl::MutexLock lock(&mutex_);
    ++looks_;
    if (!status.ok()) return status;
    return chunks;
  }
  absl::Status CommitThinning(const std::vector<store::ThinnedChunk>& chunks) override {
    if (before_write) {
      if (absl::Status status = before_write({}); !status.ok()) return status;
    }
    const absl::Status status = base_.CommitThinning(chunks);
    absl::MutexLock lock(&mutex_);
    ++thinnings_;
    return status;
  }
  // How often was looked for something to thin, and that written; they wait for `least`.
  int Looks(int least = 0) const { return AtLeast(least, looks_); }
  int Thinnings(int least = 0) const { return AtLeast(least, thinnings_); }
  absl::StatusOr<scheduler::JobPtr> GetJob(absl::string_view id) const override { return base_.GetJob(id); }
  absl::StatusOr<std::vector<scheduler::JobPtr>> ListFinishedJobs(int64_t before, int limit) const override {
    return base_.ListFinishedJobs(before, limit);
  }
  absl::StatusOr<std::vector<std::string>> FindFinishedJobs(absl::string_view prefix, int limit) const override {
    return base_.FindFinishedJobs(prefix, limit);
  }
  absl::StatusOr<std::string> GetSpec(absl::string_view sha256) const override { return base_.GetSpec(sha256); }
  absl::StatusOr<std::vector<scheduler::CheckpointPtr>> ListCheckpoints(absl::string_view job) const override {
    return base_.ListCheckpoints(job);
  }
  absl::StatusOr<std::vector<scheduler::ArtifactRecord>> ListArtifacts(absl::string_view job) const override {
    return base_.ListArtifacts(job);
  }
  absl::StatusOr<std::vector<scheduler::EventRecord>> ListEvents(absl::string_view resource, int64_t from,
                                                                 int limit) const override {
    return base_.ListEvents(resource, from, limit);
  }
  absl::StatusOr<std::optional<scheduler::RequestRecord>> GetRequest(absl::string_view id) const override {
    return base_.GetRequest(id);
  }
  absl::Status ReadMetrics(absl::string_view job, store::MetricPosition after,
                           absl::FunctionRef<bool(const store::MetricRow&)> visit) const override {
    return base_.ReadMetrics(job, after, visit);
  }
  absl::Status ReadMetricsBetween(absl::string_view job, int64_t first_images, int64_t last_images,
                                  absl::FunctionRef<void(const store::MetricRow&)> visit) const override {
    return base_.ReadMetricsBetween(job, first_images, last_images, visit);
  }
  store::StoreHealth Health() const override { return base_.Health(); }

 private:
  int AtLeast(int least, const int& count) const {
    absl::MutexLock lock(&mutex_);
    const auto enough = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return count >= least; };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(30)));
    return count;
  }

  store::JobStore& base_;

  mutable absl::Mutex mutex_;
  mutable int looks_ = 0;
  int thinnings_ = 0;
};

class CoordinatorTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    directory_ = absl::StrCat(testing::TempDir(), "/coordinator-", getpid(), "-", test->name());
    std::filesystem::create_directories(directory_);
    blobs_ = *store::BlobStore::Open(absl::StrCat(directory_, "/blobs"));
    base_ = store::NewMemoryJobStore();
    Restart();
  }
  void TearDown() override {
    coordinator_.reset();
    std::filesystem::remove_all(directory_);
  }

  void Restart() {
    coordinator_.reset();
    store_ = std::make_unique<WatchedStore>(*base_);
    Coordinator::Options options;
    options.store = store_.get();
    options.blobs = blobs_.get();
    options.clock = &clock_;
    options.tick_interval = absl::Hours(1);
    options.metrics_raw_for = metrics_raw_for_;
    options.version = "test";
    options.id_seed = 7;
    options.fatal = [this](const absl::Status& status) {
      fatal_ = status;
      failed_.Notify();
    };
    auto started = Coordinator::Start(std::move(options));
    ASSERT_TRUE(started.ok()) << started.status();
    coordinator_ = *std::move(started);
  }

  static scheduler::CreateJob Submission(const std::string& request_id = "") {
    scheduler::CreateJob create;
    create.info = {"user:ann", request_id, "payload", std::nullopt};
    create.id = "mnist-demo";
    create.needs.kind = "cpu";
    create.needs.images_total = 1000;
    create.spec_sha256 = "spec-hash";
    v1::TrainingSpec spec;
    spec.set_name("mnist-demo");
    create.spec_bytes = spec.SerializeAsString();
    return create;
  }
  std::string Submit() { return (*coordinator_->Execute(Submission())).job->id; }

  static v1::Hello Hello() {
    v1::Hello hello;
    hello.set_worker("w0");
    hello.set_instance("i1");
    hello.set_protocol_version(kProtocolVersion);
    hello.set_spool_id("spool-1");
    v1::Slot& slot = *hello.add_slots();
    slot.set_id("cpu:0");
    slot.set_kind("cpu");
    return hello;
  }
  absl::StatusOr<Coordinator::Session> Connect(const v1::Hello& hello) {
    absl::Notification answered;
    absl::StatusOr<Coordinator::Session> connected;
    coordinator_->ConnectWorker(hello, [&](absl::StatusOr<Coordinator::Session> session) {
      connected = std::move(session);
      answered.Notify();
    });
    answered.WaitForNotification();
    return connected;
  }
  // Everything that waits for the worker.
  static std::vector<v1::ConnectResponse> Messages(WorkerSession& session) {
    std::vector<v1::ConnectResponse> messages;
    while (true) {
      auto next = session.Next();
      if (!next.ok() || !next->has_value()) return messages;
      messages.push_back(**std::move(next));
    }
  }
  // Returns once the loop is done with everything before: also with what a round does after its answers (it
  // acknowledges spools), for the second tick is taken in a later round than the first.
  void Sync() {
    EXPECT_TRUE(coordinator_->Execute(scheduler::Tick{}).ok());
    EXPECT_TRUE(coordinator_->Execute(scheduler::Tick{}).ok());
  }
  void Reply(const std::shared_ptr<WorkerSession>& session, const std::string& job) {
    v1::ConnectRequest message;
    message.mutable_prepare_reply()->set_job(job);
    message.mutable_prepare_reply()->set_epoch(1);
    message.mutable_prepare_reply()->set_ok(true);
    message.mutable_prepare_reply()->set_master_address("127.0.0.1");
    message.mutable_prepare_reply()->set_master_port(4000);
    ASSERT_TRUE(coordinator_->Receive(session, message).ok());
  }
  v1::ConnectRequest Record(uint64_t sequence, const std::string& job) {
    v1::ConnectRequest message;
    v1::SpoolRecord& record = *message.mutable_spool();
    record.set_sequence(sequence);
    record.set_job(job);
    record.set_epoch(1);
    record.set_attempt(1);
    return message;
  }

  // A chunk of 128 rows that is full now, and one row behind it.
  void StoreMetrics(const std::string& job) {
    std::vector<scheduler::Mutation> rows;
    for (uint64_t n = 1; n <= 129; ++n) {
      rows.push_back(scheduler::AppendMetrics{
          .job = job, .attempt = 1, .sequence = n, .values = {{"loss", 1}}, .received = clock_.Now()});
    }
    ASSERT_TRUE(base_->Apply(rows).ok());
  }
  int MetricRows(const std::string& job) {
    int rows = 0;
    EXPECT_TRUE(base_->ReadMetrics(job, {}, [&rows](const store::MetricRow&) { return ++rows > 0; }).ok());
    return rows;
  }

  FakeClock clock_;
  absl::Duration metrics_raw_for_ = absl::InfiniteDuration();
  std::string directory_;
  std::unique_ptr<store::BlobStore> blobs_;
  std::unique_ptr<store::JobStore> base_;
  std::unique_ptr<WatchedStore> store_;
  std::unique_ptr<Coordinator> coordinator_;
  absl::Status fatal_;
  absl::Notification failed_;
};

TEST_F(CoordinatorTest, AnswersASubmitOnceItIsWritten) {
  std::atomic<bool> answered = false, answered_early = false;
  store_->before_write = [&](auto) {
    answered_early = answered_early || answered;
    return absl::OkStatus();
  };
  absl::Notification done;
  coordinator_->Post(Submission(), [&](absl::StatusOr<Coordinator::Answer> answer) {
    answered = answer.ok();
    done.Notify();
  });
  done.WaitForNotification();
  EXPECT_TRUE(answered);
  EXPECT_FALSE(answered_early);
  ASSERT_THAT(coordinator_->LiveJobs(), SizeIs(1));
  EXPECT_THAT(coordinator_->LiveJobs()[0]->id, MatchesRegex("mnist-demo-[a-z2-7]{5}"));
}

TEST_F(CoordinatorTest, AFailedWriteIsFatalAndAcknowledgesNothing) {
  Submit();
  store_->before_write = [](auto) { return absl::InternalError("fsync: Input/output error"); };
  std::atomic<bool> answered = false;
  coordinator_->Post(Submission(), [&](absl::StatusOr<Coordinator::Answer>) { answered = true; });
  failed_.WaitForNotification();
  EXPECT_FALSE(answered);
  EXPECT_THAT(std::string(fatal_.message()), testing::HasSubstr("fsync"));
  Restart();
  EXPECT_THAT(coordinator_->LiveJobs(), SizeIs(1));
}

TEST_F(CoordinatorTest, ARepeatedRequestGetsTheSameJobAlsoAfterARestart) {
  const auto first = coordinator_->Execute(Submission("request-1"));
  Restart();
  const auto second = coordinator_->Execute(Submission("request-1"));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->job->id, second->job->id);
  scheduler::CreateJob other = Submission("request-1");
  other.info.payload_sha256 = "another payload";
  EXPECT_TRUE(absl::IsAlreadyExists(coordinator_->Execute(other).status()));
}

TEST_F(CoordinatorTest, ARepeatedRequestOfADeletedJobIsNotFound) {
  const std::string job = (*coordinator_->Execute(Submission("request-1"))).job->id;
  const scheduler::KillJob kill{{"user:ann", "request-2", "payload", std::nullopt}, job};
  ASSERT_TRUE(coordinator_->Execute(kill).ok());
  const scheduler::DeleteJob erase{{"user:ann", "request-3", "payload", std::nullopt}, job};
  ASSERT_TRUE(coordinator_->Execute(erase).ok());
  for (int start = 0; start < 2; ++start) {
    EXPECT_TRUE(absl::IsNotFound(coordinator_->Execute(Submission("request-1")).status()));
    EXPECT_TRUE(absl::IsNotFound(coordinator_->Execute(kill).status()));
    EXPECT_TRUE(coordinator_->Execute(erase).ok());
    Restart();
  }
}

TEST_F(CoordinatorTest, WelcomesAWorkerAndFormsTheGang) {
  const std::string job = Submit();
  const auto session = Connect(Hello());
  ASSERT_TRUE(session.ok()) << session.status();
  auto messages = Messages(**session);
  Sync();
  for (auto& message : Messages(**session)) messages.push_back(message);
  ASSERT_THAT(messages, SizeIs(2));
  EXPECT_EQ(messages[0].welcome().lost_after_ms(), 15000);
  EXPECT_EQ(messages[1].prepare().job(), job);
  Reply(*session, job);
  Sync();
  const auto starts = Messages(**session);
  ASSERT_THAT(starts, SizeIs(1));
  EXPECT_EQ(starts[0].start().launch().spec().name(), "mnist-demo");
  EXPECT_EQ(starts[0].start().master_port(), 4000);
}

TEST_F(CoordinatorTest, AcknowledgesASpoolOnlyUpToWhatIsWritten) {
  const std::string job = Submit();
  const auto session = *Connect(Hello());
  Reply(session, job);
  Sync();
  Messages(*session);
  std::atomic<bool> acked_early = false;
  store_->before_write = [&](auto) {
    acked_early = acked_early || !Messages(*session).empty();
    return absl::OkStatus();
  };
  v1::ConnectRequest log = Record(1, job);
  log.mutable_spool()->mutable_log()->set_data("hello\n");
  ASSERT_TRUE(coordinator_->Receive(session, log).ok());
  ASSERT_TRUE(coordinator_->Receive(session, log).ok());  // Sent twice.
  Sync();
  EXPECT_FALSE(acked_early);
  EXPECT_EQ(*blobs_->ReadLog(job, 1, 0, 0, 100), "hello\n");
  const auto messages = Messages(*session);
  ASSERT_FALSE(messages.empty());
  EXPECT_EQ(messages.back().spool_ack().sequence(), 1u);
}

TEST_F(CoordinatorTest, AWorkerThatIsFarAheadIsHeldUpUntilTheLoopHasCaughtUp) {
  const auto session = *Connect(Hello());
  absl::Notification room;
  session->Attach([] {}, [&] { room.Notify(); });
  // The loop stands still while messages come.
  absl::Notification stands, go_on;
  std::thread inquirer([&] {
    const auto stand = [&](const Coordinator::Inside&) {
      stands.Notify();
      go_on.WaitForNotification();
    };
    EXPECT_TRUE(coordinator_->Inquire("", stand).ok());
  });
  stands.WaitForNotification();
  v1::ConnectRequest heartbeat;
  heartbeat.mutable_heartbeat();
  int taken = 0;
  for (bool more = true; more && taken < 10'000; ++taken) {
    const absl::StatusOr<bool> received = coordinator_->Receive(session, heartbeat);
    ASSERT_TRUE(received.ok());
    more = *received;
  }
  EXPECT_LT(taken, 10'000);
  EXPECT_FALSE(room.HasBeenNotified());
  go_on.Notify();
  inquirer.join();
  room.WaitForNotification();
}

TEST_F(CoordinatorTest, AGapInASpoolEndsTheStream) {
  const auto session = *Connect(Hello());
  ASSERT_TRUE(coordinator_->Receive(session, Record(5, "job-x")).ok());
  Sync();
  EXPECT_TRUE(absl::IsFailedPrecondition(session->status()));
}

TEST_F(CoordinatorTest, BytesOfAnUnknownJobAreAcknowledgedAndDropped) {
  const auto session = *Connect(Hello());
  Messages(*session);
  v1::ConnectRequest log = Record(1, "job-x");
  log.mutable_spool()->mutable_log()->set_data("hello\n");
  ASSERT_TRUE(coordinator_->Receive(session, log).ok());
  Sync();
  EXPECT_EQ(Messages(*session).back().spool_ack().sequence(), 1u);
  EXPECT_THAT(*blobs_->ListLogs("job-x"), IsEmpty());
}

TEST_F(CoordinatorTest, ARestartedP2dSaysAgainWhatIsStillNeeded) {
  const std::string job = Submit();
  const auto session = *Connect(Hello());
  Reply(session, job);
  Sync();
  Restart();
  EXPECT_TRUE(absl::IsUnavailable(session->status()));
  ASSERT_THAT(coordinator_->LiveJobs(), SizeIs(1));
  EXPECT_EQ(coordinator_->LiveJobs()[0]->state, scheduler::JobState::kStarting);
  v1::Hello hello = Hello();
  v1::RunningAttempt& running = *hello.add_running();
  running.set_job(job);
  running.set_epoch(1);
  running.set_prepared(true);
  const auto again = *Connect(hello);
  Sync();
  const auto messages = Messages(*again);
  ASSERT_THAT(messages, SizeIs(2));
  EXPECT_TRUE(messages[0].has_welcome());
  EXPECT_EQ(messages[1].start().epoch(), 1);
}

TEST_F(CoordinatorTest, AFinishedJobIsReadFromTheStoreAndCanBeDeleted) {
  const std::string job = Submit();
  ASSERT_TRUE(coordinator_->Execute(scheduler::KillJob{{"user:ann"}, job, ""}).ok());
  EXPECT_THAT(coordinator_->LiveJobs(), IsEmpty());
  ASSERT_TRUE(coordinator_->GetJob(job).ok());
  EXPECT_EQ((*coordinator_->GetJob(job))->state, scheduler::JobState::kCancelled);
  EXPECT_TRUE(absl::IsFailedPrecondition(coordinator_->Execute(scheduler::StopJob{{"user:ann"}, job, ""}).status()));
  ASSERT_TRUE(coordinator_->Execute(scheduler::DeleteJob{{"user:ann"}, job}).ok());
  EXPECT_TRUE(absl::IsNotFound(coordinator_->GetJob(job).status()));
}

TEST_F(CoordinatorTest, ASilentWorkerIsLostByTheMonotonicClock) {
  const auto session = *Connect(Hello());
  clock_.Advance(absl::Seconds(16));
  Sync();
  ASSERT_THAT(*coordinator_->Workers(), SizeIs(1));
  EXPECT_EQ(coordinator_->Workers()->at(0)->state, scheduler::WorkerState::kLost);
}

TEST_F(CoordinatorTest, ADevicesFaultCordonsItsWorkerAlsoAfterARestart) {
  auto session = *Connect(Hello());
  v1::ConnectRequest heartbeat;
  v1::DeviceFault& fault = *heartbeat.mutable_heartbeat()->add_device_faults();
  fault.set_slot("cpu:0");
  fault.set_xid(79);
  ASSERT_TRUE(coordinator_->Receive(session, heartbeat).ok());
  Sync();
  EXPECT_TRUE(coordinator_->Workers()->at(0)->cordoned);
  EXPECT_THAT(coordinator_->Workers()->at(0)->cordon_reason, ::testing::HasSubstr("XID 79 on cpu:0"));
  ASSERT_TRUE(coordinator_->Execute(scheduler::UncordonWorker{{"user:ann"}, "w0"}).ok());
  Restart();
  session = *Connect(Hello());
  ASSERT_TRUE(coordinator_->Receive(session, heartbeat).ok());
  Sync();
  EXPECT_FALSE(coordinator_->Workers()->at(0)->cordoned) << "it was seen, and forgiven";
  fault.set_count(2);
  ASSERT_TRUE(coordinator_->Receive(session, heartbeat).ok());
  Sync();
  EXPECT_TRUE(coordinator_->Workers()->at(0)->cordoned);
}

TEST_F(CoordinatorTest, AnotherProtocolVersionIsRefused) {
  v1::Hello hello = Hello();
  hello.set_protocol_version(99);
  EXPECT_TRUE(absl::IsFailedPrecondition(Connect(hello).status()));
}

TEST_F(CoordinatorTest, WatchersSeeWhatIsWritten) {
  const auto watch = coordinator_->watches().WatchJobs({}, 0);
  const std::string job = Submit();
  const auto change = (*watch)->Next(absl::Seconds(10));
  ASSERT_TRUE(change.ok() && change->has_value());
  EXPECT_EQ((*change)->job, job);
}

TEST_F(CoordinatorTest, MetricsAreThinnedOnceP2dHasHadThemForLongEnough) {
  metrics_raw_for_ = absl::Hours(24);
  StoreMetrics("job-a");
  Restart();
  clock_.Advance(absl::Hours(24));
  Sync();
  store_->Thinnings(1);
  Sync();
  EXPECT_EQ(MetricRows("job-a"), 129);
  EXPECT_EQ(store_->Looks(), 1) << "nothing was due: the next look is in a minute";
  clock_.Advance(absl::Minutes(1));
  Sync();
  store_->Thinnings(2);
  EXPECT_EQ(MetricRows("job-a"), 9);
  // And for ever where that was chosen.
  metrics_raw_for_ = absl::InfiniteDuration();
  StoreMetrics("job-b");
  Restart();
  clock_.Advance(absl::Hours(24 * 365));
  Sync();
  EXPECT_EQ(MetricRows("job-b"), 129);
  EXPECT_EQ(store_->Looks(), 0);
}

TEST_F(CoordinatorTest, NothingIsThinnedWhileTheDiskIsFull) {
  metrics_raw_for_ = absl::Hours(24);
  StoreMetrics("job-a");
  Restart();
  clock_.Advance(absl::Hours(25));
  ASSERT_TRUE(coordinator_->Execute(scheduler::DiskState{.full = true, .message = "full"}).ok());
  Sync();
  EXPECT_EQ(store_->Looks(), 0);
  ASSERT_TRUE(coordinator_->Execute(scheduler::DiskState{}).ok());
  Sync();
  store_->Thinnings(1);
  EXPECT_EQ(MetricRows("job-a"), 9);
}

TEST_F(CoordinatorTest, MetricsOfAJobThatIsDeletedWhileTheyAreThinnedStayDeleted) {
  const std::string job = Submit();
  StoreMetrics(job);
  metrics_raw_for_ = absl::Hours(24);
  Restart();
  clock_.Advance(absl::Hours(25));
  absl::Notification thinned, deleted;
  store_->before_thinning_ends = [&] {
    if (!thinned.HasBeenNotified()) thinned.Notify();
    deleted.WaitForNotification();
    return absl::OkStatus();
  };
  coordinator_->Post(scheduler::Tick{}, [](auto) {});
  thinned.WaitForNotification();
  ASSERT_TRUE(coordinator_->Execute(scheduler::KillJob{{"user:ann"}, job}).ok());
  ASSERT_TRUE(coordinator_->Execute(scheduler::DeleteJob{{"user:ann"}, job}).ok());
  EXPECT_EQ(MetricRows(job), 0);
  deleted.Notify();
  while (store_->Thinnings() == 0) Sync();
  EXPECT_EQ(MetricRows(job), 0);
}

TEST_F(CoordinatorTest, ThinningThatCannotBeWrittenIsFatalAsAnyWrite) {
  metrics_raw_for_ = absl::Hours(24);
  Restart();
  store_->before_write = [](auto) { return absl::InternalError("fsync: Input/output error"); };
  coordinator_->Post(scheduler::Tick{}, [](auto) {});
  failed_.WaitForNotification();
  EXPECT_EQ(fatal_.code(), absl::StatusCode::kInternal);
}

TEST_F(CoordinatorTest, OldMetricsThatCannotBeReadEndNothing) {
  metrics_raw_for_ = absl::Hours(24);
  Restart();
  store_->before_thinning_ends = [] { return absl::DataLossError("a record does not match its checksum"); };
  Sync();
  store_->Looks(1);
  Submit();
  Sync();
  EXPECT_EQ(store_->Looks(), 1) << "and the next look is in a minute";
  while (store_->Looks() == 1) {
    clock_.Advance(absl::Minutes(1));
    Sync();
  }
}

TEST_F(CoordinatorTest, StopAnswersWhatWaits) {
  coordinator_->Stop();
  EXPECT_TRUE(absl::IsUnavailable(coordinator_->Execute(Submission()).status()));
}

}  // namespace
}  // namespace p2::coordinator
