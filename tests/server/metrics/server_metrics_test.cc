#include "server/metrics/server_metrics.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/http/prometheus_text.h"
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
                         .now = [] { return kNow; }});
  }

  std::string Scrape() { return http::MetricsHandler(metrics_.collectables())().body; }

  // The job as it is after a commit.
  void Commit(JobRecord job) {
    auto record = std::make_shared<const JobRecord>(std::move(job));
    std::erase_if(jobs_, [&](const scheduler::JobPtr& other) { return other->id == record->id; });
    if (!scheduler::IsTerminal(record->state)) jobs_.push_back(record);
    metrics_.OnCommit({}, std::vector<scheduler::Mutation>{scheduler::PutJob{.job = record}}, absl::ZeroDuration(),
                      absl::Milliseconds(1));
  }
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
    job.attempts.push_back({.number = number, .create_time = kNow + absl::Seconds(2)});
    return job;
  }
  static JobRecord Running(JobRecord job) {
    job.state = JobState::kRunning;
    job.attempts.back().start_time = job.attempts.back().create_time + absl::Milliseconds(700);
    job.progress = {.images_seen = 640, .images_per_second = 12.5};
    return job;
  }

  ServerMetrics metrics_;
  std::vector<scheduler::JobPtr> jobs_;
  std::vector<scheduler::WorkerPtr> workers_;
};

TEST_F(ServerMetricsTest, CountsJobsByStateAndByTheReasonWhyTheyWait) {
  Commit(Queued("job-a"));
  Commit(Queued("job-b"));
  EXPECT_THAT(Scrape(), AllOf(HasSubstr("p2_jobs{state=\"QUEUED\",queue=\"default\"} 2"),
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
  job.attempts.back().create_time = job.create_time;
  Commit(job);
  Commit(job);
  EXPECT_THAT(Scrape(), AllOf(HasSubstr("p2_queue_wait_seconds_count 1"), HasSubstr("p2_queue_wait_seconds_sum 0")));
}

TEST_F(ServerMetricsTest, CountsARestartByTheClassOfItsCause) {
  JobRecord job = Running(WithAttempt(Queued("job-a"), 1));
  Commit(Queued("job-a"));
  Commit(job);
  job.state = JobState::kQueued;
  job.attempts.back().outcome = scheduler::Outcome::kFailed;
  job.attempts.back().reason = scheduler::StatusReason::kOutOfMemory;
  Commit(job);
  Commit(job);
  EXPECT_THAT(Scrape(), HasSubstr("p2_restarts_total{class=\"out_of_memory\"} 1"));
}

TEST_F(ServerMetricsTest, ShowsALiveJobsValuesAndForgetsThemAtItsEnd) {
  JobRecord job = Running(WithAttempt(Queued("job-a"), 1));
  Commit(job);
  metrics_.OnCommit({},
                    std::vector<scheduler::Mutation>{scheduler::AppendMetrics{
                        .job = "job-a",
                        .attempt = 1,
                        .step = 80,
                        .values = {{"loss", 0.5}, {"vb", 0.25}, {"grad_norm", 2}, {"loss_snr_07", 3}}}},
                    absl::ZeroDuration(), absl::Milliseconds(1));
  EXPECT_THAT(
      Scrape(),
      AllOf(HasSubstr("p2_images_seen{job_id=\"job-a\"} 640"), HasSubstr("p2_step{job_id=\"job-a\"} 80"),
            HasSubstr("p2_loss{job_id=\"job-a\",kind=\"loss\"} 0.5"),
            HasSubstr("p2_loss{job_id=\"job-a\",kind=\"vb\"} 0.25"),
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

}  // namespace
}  // namespace p2::metrics
