// Metric points from running jobs: how many become durable, and how soon they can be asked for.
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "bench/loadgen/quantile.h"
#include "bench/loadgen/running_jobs.h"
#include "bench/loadgen/scenarios.h"
#include "common/doorbell.h"
#include "common/status_macros.h"

namespace p2::loadgen {
namespace {

constexpr int kPoints = 100;  // A message.
constexpr absl::Duration kProbeInterval = absl::Milliseconds(200);
constexpr absl::Duration kProbePoll = absl::Milliseconds(2);  // Asking without pause took a sixth of p2d's time.
constexpr absl::Duration kProbeTimeout = absl::Seconds(30);

// How long points take until QueryMetrics finds them, by a job that reports little.
class Probe {
 public:
  Probe(Client& client, RunningJobs& jobs, int job)
      : client_(client), jobs_(jobs), job_(job), thread_([this] { Run(); }) {}
  ~Probe() { Stop(); }
  void Stop() {
    stop_.Ring();
    if (thread_.joinable()) thread_.join();
  }

  // Stop first.
  std::vector<double> ages_ms;  // Sorted.
  int64_t errors = 0;

 private:
  void Run() {
    do {
      const absl::StatusOr<absl::Duration> age = Look();
      if (age.ok())
        ages_ms.push_back(absl::ToDoubleMilliseconds(*age));
      else
        ++errors;
    } while (!stop_.WaitFor(kProbeInterval));
    std::sort(ages_ms.begin(), ages_ms.end());
  }

  absl::StatusOr<absl::Duration> Look() {
    const absl::Time begin = absl::Now();
    p2::v1::QueryMetricsRequest query;
    query.set_job(jobs_.name(job_));
    query.add_metrics("loss");
    query.set_from_images(jobs_.Report(job_, {{"loss", 0.25}}, [](const absl::Status&) {}));
    for (; absl::Now() - begin < kProbeTimeout; absl::SleepFor(kProbePoll)) {
      P2_ASSIGN_OR_RETURN(const p2::v1::QueryMetricsResponse found, client_.QueryMetrics(query));
      if (found.series_size() > 0) return absl::Now() - begin;
    }
    return absl::DeadlineExceededError("the point was not found");
  }

  Client& client_;
  RunningJobs& jobs_;
  const int job_;
  Doorbell stop_;
  std::thread thread_;  // Last.
};

// Points of `loss` that p2d holds of `job`.
absl::StatusOr<int64_t> CountPoints(Client& client, const std::string& job) {
  p2::v1::QueryMetricsRequest query;
  query.set_job(job);
  query.add_metrics("loss");
  query.set_max_points(1);
  P2_ASSIGN_OR_RETURN(const p2::v1::QueryMetricsResponse found, client.QueryMetrics(query));
  if (found.series().empty() || found.series(0).points().empty()) return 0;
  return std::max(1, found.series(0).points(0).count());
}

}  // namespace

absl::StatusOr<nlohmann::ordered_json> RunMetrics(const ScenarioOptions& options, ServerUnderTest& server) {
  ClientOptions client_options;
  client_options.address = server.grpc();
  P2_ASSIGN_OR_RETURN(const auto client, Client::Connect(client_options));
  // The last job is the probe's.
  P2_ASSIGN_OR_RETURN(
      const auto jobs,
      RunningJobs::Start({.address = server.grpc(), .workers = options.workers + 1, .seed = options.load.seed},
                         *client));
  LoadOptions load = options.load;
  load.rate /= kPoints;
  const std::map<std::string, double> values = ValuesOf(kPoints);
  std::vector<std::atomic<int64_t>> sent(static_cast<size_t>(options.workers));
  Probe probe(*client, *jobs, options.workers);
  const LoadResult result = RunLoad(load, [&](int64_t index, Done done) {
    const int job = static_cast<int>(index % options.workers);
    ++sent[static_cast<size_t>(job)];
    jobs->Report(job, values, std::move(done));
  });
  probe.Stop();

  nlohmann::ordered_json json = result.ToJson();
  json["rate_per_s"] = result.rate_per_s * kPoints;
  json["messages_per_s"] = result.rate_per_s;
  json["points_a_message"] = kPoints;
  json["workers"] = options.workers;
  json["queryable_p50_ms"] = Quantile(probe.ages_ms, 0.5);
  json["queryable_p99_ms"] = Quantile(probe.ages_ms, 0.99);
  int64_t lost = 0;
  for (int job = 0; job < options.workers; ++job) {
    P2_ASSIGN_OR_RETURN(const int64_t held, CountPoints(*client, jobs->name(job)));
    lost += std::abs(sent[static_cast<size_t>(job)] - held);
  }
  json["messages_lost"] = lost;
  json["errors"] = result.errors + probe.errors + lost;
  return json;
}

}  // namespace p2::loadgen
