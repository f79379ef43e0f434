#include "server/metrics/server_metrics.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/http/prometheus_text.h"
#include "common/metric_names.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace p2::metrics {
namespace {

using scheduler::JobRecord;
using scheduler::JobState;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const absl::Time kNow = absl::FromUnixSeconds(1'790'000'000);

class ServerMetricsTest : public ::testing::Test {
 protected:
  ServerMetricsTest() : metrics_("1.2.3") {
    metrics_.SetSources({.live_jobs = [this] { return jobs_; },
                         .workers = [this] { return workers_; },
                         .watchers = [] { return 3; },
                         .free_bytes = [] { return int64_t{1000}; },
                         .store_health = [] { return store::StoreHealth{.background_error = true, .stalls = 4}; },
                         .now = [] { return kNow; },
                         .accounts = [this] { return accounts_; }});
  }

  std::string Scrape() { return http::MetricsHandler(metrics_.collectables())().body; }

  // A commit after which `state_` holds what `mutations` say.
  void CommitAll(const std::vector<scheduler::Mutation>& mutations) {
    for (const scheduler::Mutation& mutation : mutations) state_.Apply(mutation);
    metrics_.OnCommit(state_, mutations, absl::Microseconds(20), absl::Milliseconds(1));
  }
  // The job as it is after a commit.
  void Commit(JobRecord job) {
    auto record = std::make_shared<const JobRecord>(std::move(job));
    std::erase_if(jobs_, [&](const scheduler::JobPtr& other) { return other->id == record->id; });
    if (!scheduler::IsTerminal(record->state)) jobs_.push_back(record);
    CommitAll({scheduler::PutJob{.job = record}});
  }
  static scheduler::AppendMetrics Row(int64_t step, std::map<std::string, double> values) {
    return {.job = "job-a", .attempt = 1, .step = step, .values = std::move(values)};
  }
  static scheduler::PutCheckpoint Checkpoint(std::string id, int64_t bytes) {
    scheduler::CheckpointRecord record;
    record.job = "job-a";
    record.id = std::move(id);
    record.state = scheduler::CheckpointState::kCommitted;
    record.size_bytes = bytes;
    return {std::make_shared<const scheduler::CheckpointRecord>(std::move(record))};
  }
  static scheduler::AppendEvent Event(std::string reason) { return {{.reason = std::move(reason)}}; }
  static JobRecord Queued(std::string id) {
    JobRecord job;
    job.id = std::move(id);
    job.reason = scheduler::StatusReason::kWaitingForDevices;
    job.create_time = job.update_time = kNow;
    return job;
  }
  static JobRecord WithAttempt(JobRecord job, int number) {
    job.state = JobState::kStarting;
    job.update_time = kNow + absl::Seconds(2);
    job.attempt_count = number;
    job.attempts.push_back(scheduler::Attempt{.number = number, .create_time = kNow + absl::Seconds(2)});
    return job;
  }
  static JobRecord Running(JobRecord job) {
    job.state = JobState::kRunning;
    job.attempts.back().Edit().start_time = job.attempts.back()->create_time + absl::Milliseconds(700);
    job.progress = {.images_seen = 640, .images_per_second = 12.5};
    return job;
  }

  ServerMetrics metrics_;
  scheduler::ClusterState state_;
  std::vector<scheduler::JobPtr> jobs_;
  std::vector<scheduler::WorkerPtr> workers_;
  AccountNumbers accounts_;
};

TEST_F(ServerMetricsTest, ShowsSharesQuotasAndADriftOfTheLedger) {
  accounts_ = {.fair_share_ratio = {{"default", 1.5}}, .quota_devices = {{"default", 8}}, .ledger_drift = 2};
  EXPECT_THAT(Scrape(),
              AllOf(HasSubstr("p2_fair_share_ratio{project=\"default\"} 1.5"),
                    HasSubstr("p2_quota_devices{project=\"default\",kind=\"any\"} 8"), HasSubstr("p2_ledger_drift 2"),
                    HasSubstr("p2_preemptions_total{reason=\"preempted\"} 0")));
}

TEST_F(ServerMetricsTest, CountsWhoMadeRoomAndWhatThatCost) {
  JobRecord job = Queued("job-a");
  scheduler::Attempt attempt;
  attempt.number = 1;
  job.attempts = {attempt};
  job.attempt_count = 1;
  job.state = JobState::kPausing;
  Commit(job);
  job.attempts[0].Edit().outcome = scheduler::Outcome::kStopped;
  job.attempts[0].Edit().reason = scheduler::StatusReason::kPreempted;
  job.attempts[0].Edit().end_images_seen = 130;
  job.progress.images_seen = 100;
  job.state = JobState::kQueued;
  Commit(job);
  EXPECT_THAT(Scrape(), AllOf(HasSubstr("p2_preemptions_total{reason=\"preempted\"} 1"),
                              HasSubstr("p2_preempted_lost_images_total 30")));
}

TEST_F(ServerMetricsTest, CountsJobsByStateAndByTheReasonWhyTheyWait) {
  Commit(Queued("job-a"));
  Commit(Queued("job-b"));
  EXPECT_THAT(Scrape(), AllOf(HasSubstr("p2_jobs{state=\"QUEUED\",queue=\"default\"} 2"),
                              HasSubstr("p2_pending_jobs{queue=\"default\",reason=\"BACKOFF\"} 0"),
                              HasSubstr("p2_jobs{state=\"RUNNING\",queue=\"default\"} 0"),
                              HasSubstr("p2_pending_jobs{queue=\"default\",reason=\"WAITING_FOR_DEVICES\"} 2"),
                              HasSubstr("p2_admissions_total 2"), HasSubstr("p2_watchers 3"),
                              HasSubstr("p2_store_free_bytes 1000"), HasSubstr("p2_build_info{version=\"1.2.3\"} 1")));
}

TEST_F(ServerMetricsTest, MeasuresTheQueueAndTheGangOfAJobOnce) {
  const JobRecord job = WithAttempt(Queued("job-a"), 1);
  Commit(Queued("job-a"));
  Commit(job);
  Commit(job);
  Commit(Running(job));
  Commit(Running(job));
  EXPECT_THAT(Scrape(), AllOf(HasSubstr("p2_queue_wait_seconds_count 1"), HasSubstr("p2_queue_wait_seconds_sum 2"),
                              HasSubstr("p2_gang_start_seconds_count 1"), HasSubstr("p2_gang_start_seconds_sum 0.7")));
}

TEST_F(ServerMetricsTest, MeasuresTheWaitOfAJobThatStartsAtOnce) {
  JobRecord job = WithAttempt(Queued("job-a"), 1);
  job.update_time = job.create_time;
  job.attempts.back().Edit().create_time = job.create_time;
  Commit(job);
  Commit(job);
  EXPECT_THAT(Scrape(), AllOf(HasSubstr("p2_queue_wait_seconds_count 1"), HasSubstr("p2_queue_wait_seconds_sum 0")));
}

TEST_F(ServerMetricsTest, CountsTheDevicesThatQueuedJobsWaitFor) {
  JobRecord cuda = Queued("job-a"), any = Queued("job-b"), running = Running(WithAttempt(Queued("job-c"), 1));
  cuda.needs.Edit().kind = "cuda";
  cuda.needs.Edit().devices = 4;
  any.needs.Edit().devices = 3;
  running.needs.Edit().devices = 7;
  for (const JobRecord& job : {cuda, any, running}) Commit(job);
  EXPECT_THAT(Scrape(),
              AllOf(HasSubstr("p2_pending_devices{kind=\"any\"} 3"), HasSubstr("p2_pending_devices{kind=\"cpu\"} 0"),
                    HasSubstr("p2_pending_devices{kind=\"cuda\"} 4")));
}

TEST_F(ServerMetricsTest, MeasuresRoundsAndOnlyThoseWritesThatHappened) {
  metrics_.OnCommit({}, {}, absl::Microseconds(50), absl::ZeroDuration());
  metrics_.OnCommit({}, {}, absl::Microseconds(50), absl::Milliseconds(2));
  EXPECT_THAT(Scrape(),
              AllOf(HasSubstr("p2_scheduler_cycle_seconds_count 2"), HasSubstr("p2_scheduler_cycle_seconds_sum 0.0001"),
                    HasSubstr("p2_store_write_seconds_count 1"), HasSubstr("p2_store_write_seconds_sum 0.002")));
}

TEST_F(ServerMetricsTest, TellsTheStoresTroubles) {
  EXPECT_THAT(Scrape(), AllOf(HasSubstr("p2_store_background_error 1"), HasSubstr("p2_store_stalls_total 4")));
}

TEST_F(ServerMetricsTest, ShowsWhatALiveJobHasOnStorageAndCountsFailedCheckpoints) {
  Commit(Running(WithAttempt(Queued("job-a"), 1)));
  EXPECT_THAT(Scrape(), HasSubstr("p2_checkpoint_bytes{job_id=\"job-a\"} 0"));
  CommitAll({Checkpoint("c1", 100), Checkpoint("c2", 200), Event("CHECKPOINT_FAILED"), Event("JOB_CREATED")});
  EXPECT_THAT(Scrape(), AllOf(HasSubstr("p2_checkpoint_bytes{job_id=\"job-a\"} 300"),
                              HasSubstr("p2_checkpoint_failures_total 1")));
  CommitAll({scheduler::EraseCheckpoint{.job = "job-a", .checkpoint = "c1"}});
  EXPECT_THAT(Scrape(), HasSubstr("p2_checkpoint_bytes{job_id=\"job-a\"} 200"));
}

TEST_F(ServerMetricsTest, CountsTheCheckpointsThatWereThereBeforeItStarted) {
  state_.Apply(Checkpoint("c1", 100));
  Commit(Running(WithAttempt(Queued("job-a"), 1)));
  EXPECT_THAT(Scrape(), HasSubstr("p2_checkpoint_bytes{job_id=\"job-a\"} 100"));
}

TEST_F(ServerMetricsTest, AJobThatWaitedWhenP2dStartedHasItsSeriesOnceItStarts) {
  state_.Apply(scheduler::PutJob{std::make_shared<const JobRecord>(Queued("job-a"))});
  CommitAll({});
  EXPECT_THAT(Scrape(), Not(HasSubstr("job-a")));
  Commit(Running(WithAttempt(Queued("job-a"), 1)));
  EXPECT_THAT(Scrape(), HasSubstr("p2_checkpoint_bytes{job_id=\"job-a\"} 0"));
  CommitAll({Checkpoint("c1", 100)});
  EXPECT_THAT(Scrape(), HasSubstr("p2_checkpoint_bytes{job_id=\"job-a\"} 100"));
}

TEST_F(ServerMetricsTest, KeepsTheTimesOfACheckpointUntilTheNext) {
  Commit(Running(WithAttempt(Queued("job-a"), 1)));
  CommitAll(
      {Row(10, {{"checkpoint_stall_seconds", 0.25}, {"checkpoint_durable_lag_seconds", 2}}), Row(20, {{"loss", 1}})});
  EXPECT_THAT(Scrape(), AllOf(HasSubstr("p2_checkpoint_stall_seconds{job_id=\"job-a\"} 0.25"),
                              HasSubstr("p2_checkpoint_durable_lag_seconds{job_id=\"job-a\"} 2")));
}

TEST_F(ServerMetricsTest, AddsUpTheStepsThatChangedNothing) {
  Commit(Running(WithAttempt(Queued("job-a"), 1)));
  CommitAll({Row(10, {{"nonfinite_steps", 0}})});
  EXPECT_THAT(Scrape(), HasSubstr("p2_nonfinite_steps_total{job_id=\"job-a\"} 0"));
  CommitAll({Row(20, {{"nonfinite_steps", 2}}), Row(30, {{"nonfinite_steps", 1}})});
  EXPECT_THAT(Scrape(), HasSubstr("p2_nonfinite_steps_total{job_id=\"job-a\"} 3"));
}

TEST_F(ServerMetricsTest, CountsARestartByTheClassOfItsCauseUntilTheJobEnds) {
  JobRecord job = Running(WithAttempt(Queued("job-a"), 1));
  Commit(Queued("job-a"));
  Commit(job);
  job.state = JobState::kQueued;
  job.attempts.back().Edit().outcome = scheduler::Outcome::kFailed;
  job.attempts.back().Edit().reason = scheduler::StatusReason::kOutOfMemory;
  Commit(job);
  Commit(job);
  EXPECT_THAT(Scrape(), HasSubstr("p2_restarts_total{job_id=\"job-a\",class=\"out_of_memory\"} 1"));
  job = WithAttempt(job, 2);
  Commit(job);
  job.state = JobState::kFailed;
  job.attempts.back().Edit().outcome = scheduler::Outcome::kFailed;
  job.attempts.back().Edit().reason = scheduler::StatusReason::kNumeric;
  Commit(job);
  Commit(Running(WithAttempt(Queued("job-a"), 1)));  // Whatever it left would show again.
  EXPECT_THAT(Scrape(), Not(HasSubstr("p2_restarts_total{")));
}

TEST_F(ServerMetricsTest, ShowsALiveJobsValuesAndForgetsThemAtItsEnd) {
  JobRecord job = Running(WithAttempt(Queued("job-a"), 1));
  Commit(job);
  CommitAll({Row(80, {{"loss", 0.5},
                      {"mse_weighted", 0.125},
                      {"vb", 0.25},
                      {"grad_norm", 2},
                      {"loss_snr_07", 3},
                      {"ema_distance_0.9999", 0.0625},
                      {"step_seconds", 0.75},
                      {"step_seconds_data", 0.5},
                      {"step_seconds_optimizer", 0.25}})});
  EXPECT_THAT(
      Scrape(),
      AllOf(HasSubstr("p2_images_seen{job_id=\"job-a\"} 640"), HasSubstr("p2_step{job_id=\"job-a\"} 80"),
            HasSubstr("p2_loss{job_id=\"job-a\",kind=\"loss\"} 0.5"),
            HasSubstr("p2_loss{job_id=\"job-a\",kind=\"vb\"} 0.25"),
            HasSubstr("p2_loss{job_id=\"job-a\",kind=\"mse_weighted\"} 0.125"),
            HasSubstr("p2_step_seconds{job_id=\"job-a\",phase=\"data\"} 0.5"),
            HasSubstr("p2_step_seconds{job_id=\"job-a\",phase=\"optimizer\"} 0.25"),
            HasSubstr("p2_ema_distance{job_id=\"job-a\",profile=\"0.9999\"} 0.0625"),
            HasSubstr("p2_loss_snr{job_id=\"job-a\",bin=\"07\"} 3"), HasSubstr("p2_grad_norm{job_id=\"job-a\"} 2"),
            HasSubstr("p2_images_per_second{job_id=\"job-a\"} 12.5")));
  job.state = JobState::kSucceeded;
  Commit(job);
  EXPECT_THAT(Scrape(), Not(HasSubstr("job-a")));
}

TEST_F(ServerMetricsTest, ShowsNoMoreJobsThanPrometheusShallBear) {
  for (int i = 0; i < 300; ++i) {
    JobRecord job = Running(WithAttempt(Queued(absl::StrCat("job-", i)), 1));
    job.create_order = i;
    Commit(job);
  }
  const std::string text = Scrape();
  EXPECT_THAT(text, HasSubstr("p2_images_seen{job_id=\"job-255\"}"));
  EXPECT_THAT(text, Not(HasSubstr("p2_images_seen{job_id=\"job-256\"}")));
}

TEST_F(ServerMetricsTest, CountsWorkersAndLeavesTheirDevicesToThem) {
  auto worker = std::make_shared<scheduler::WorkerRecord>();
  worker->id = "w0";
  worker->slots = {{.id = "cpu:0", .kind = "cpu"}, {.id = "cpu:1", .kind = "cpu"}};
  worker->last_heartbeat_time = kNow - absl::Seconds(4);
  workers_ = {worker};
  EXPECT_THAT(Scrape(),
              AllOf(HasSubstr("p2_nodes{state=\"ready\"} 1"),
                    HasSubstr("p2_worker_heartbeat_age_seconds{worker=\"w0\"} 4"), Not(HasSubstr("p2_devices"))));
}

TEST_F(ServerMetricsTest, CountsRpcsByTheNamesThatDashboardsKnow) {
  metrics_.OnRpc("p2.v1.JobService", "GetJob", "NOT_FOUND", absl::Milliseconds(2));
  EXPECT_THAT(Scrape(), AllOf(HasSubstr("grpc_server_handled_total{grpc_code=\"NOT_FOUND\",grpc_method=\"GetJob\","
                                        "grpc_service=\"p2.v1.JobService\"} 1"),
                              HasSubstr("grpc_server_handling_seconds_count{grpc_method=\"GetJob\"")));
}

// `name type {labels}` of every series, from the daemon's own text.
std::set<std::string> Exposed(const std::vector<std::weak_ptr<prometheus::Collectable>>& collectables) {
  static constexpr const char* kTypes[] = {"counter", "gauge", "summary", "untyped", "histogram", "info"};
  std::set<std::string> exposed;
  for (const auto& weak : collectables) {
    for (const prometheus::MetricFamily& family : weak.lock()->Collect()) {
      for (const prometheus::ClientMetric& metric : family.metric) {
        std::set<std::string> labels;
        for (const auto& label : metric.label) labels.insert(label.name);
        exposed.insert(absl::StrCat(family.name, " ", kTypes[static_cast<int>(family.type)], " {",
                                    absl::StrJoin(labels, ","), "}"));
      }
    }
  }
  return exposed;
}

TEST_F(ServerMetricsTest, ServesTheSeriesOfTheTableAndNoOther) {
  JobRecord job = Running(WithAttempt(Queued("job-a"), 1));
  Commit(job);
  job.attempts.back().Edit().outcome = scheduler::Outcome::kFailed;
  Commit(job);
  job = Running(WithAttempt(job, 2));
  Commit(job);
  CommitAll({Row(80, {{"loss", 1},
                      {"grad_norm", 1},
                      {"loss_snr_00", 1},
                      {"ema_distance_0.9999", 0.5},
                      {"step_seconds_data", 1},
                      {"count_snr_00", 1},
                      {"checkpoint_stall_seconds", 1},
                      {"checkpoint_durable_lag_seconds", 1}}),
             Checkpoint("c1", 1)});
  auto worker = std::make_shared<scheduler::WorkerRecord>();
  worker->id = "w0";
  worker->last_heartbeat_time = kNow;
  workers_ = {worker};
  accounts_ = {.fair_share_ratio = {{"default", 1}}, .quota_devices = {{"default", 8}}, .ledger_drift = 0};
  metrics_.OnRpc("p2.v1.JobService", "GetJob", "OK", absl::Milliseconds(2));
  std::set<std::string> table;
  for (const metric::Series& series : metric::kSeries) {
    static constexpr const char* kTypes[] = {"gauge", "counter", "histogram"};
    if (series.of_p2d)
      table.insert(absl::StrCat(series.name, " ", kTypes[static_cast<int>(series.type)], " {", series.labels, "}"));
  }
  EXPECT_EQ(Exposed(metrics_.collectables()), table);
}

}  // namespace
}  // namespace p2::metrics
