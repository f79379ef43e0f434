// How long a p2d that was killed takes until it serves again, what it holds in memory by then, and whether all that it
// had acknowledged is there.
#include <algorithm>
#include <random>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "bench/loadgen/full_cluster.h"
#include "bench/loadgen/quantile.h"
#include "bench/loadgen/scenarios.h"
#include "bench/loadgen/submitter.h"
#include "common/status_macros.h"

namespace p2::loadgen {
namespace {

constexpr int kRestarts = 3;
constexpr int kControlled = 10'000;  // Jobs of one ControlJobs.

struct Restarts {
  std::vector<double> seconds;  // Sorted.
  int64_t resident_bytes = 0;   // Behind the last one.
};

absl::StatusOr<Restarts> Restart(ServerUnderTest& server) {
  Restarts restarts;
  for (int i = 0; i < kRestarts; ++i) {
    server.Kill();
    P2_ASSIGN_OR_RETURN(const absl::Duration taken, server.Start());
    restarts.seconds.push_back(absl::ToDoubleSeconds(taken));
  }
  restarts.resident_bytes = server.process().ResidentBytes();
  std::sort(restarts.seconds.begin(), restarts.seconds.end());
  return restarts;
}

// Jobs that have ended, by the API: made paused and killed.
absl::Status FillEnded(Client& client, uint64_t seed, int64_t count) {
  for (int64_t made = 0; made < count; made += kControlled) {
    const int part = static_cast<int>(std::min<int64_t>(kControlled, count - made));
    P2_ASSIGN_OR_RETURN(const std::vector<std::string> names, CreateJobs(client, seed, made, part, /*paused=*/true));
    p2::v1::ControlJobsRequest kill;
    kill.set_verb(p2::v1::ControlJobsRequest::KILL);
    kill.mutable_names()->Assign(names.begin(), names.end());
    P2_RETURN_IF_ERROR(client.ControlJobs(std::move(kill)).status());
  }
  return absl::OkStatus();
}

// Submits until p2d is killed in the midst of it, restarts it, and returns how many were acknowledged and how many of
// those are missing.
absl::StatusOr<std::pair<int64_t, int64_t>> KillUnderSubmits(const ScenarioOptions& options, ServerUnderTest& server,
                                                             Client& client) {
  P2_ASSIGN_OR_RETURN(const auto submitter, Submitter::Connect(server.grpc(), options.connections, options.load.seed));
  absl::Mutex mutex;
  std::vector<std::string> acknowledged;
  const auto keep = [&](const std::string& name) {
    absl::MutexLock lock(&mutex);
    acknowledged.push_back(name);
  };
  LoadOptions load = options.load;
  load.rate = 0;
  std::thread submits([&] {
    RunLoad(load, [&](int64_t index, Done done) { submitter->Submit(2 * kHoldingJob + index, std::move(done), keep); });
  });
  std::mt19937_64 random(options.load.seed);
  absl::SleepFor(options.load.duration * std::uniform_real_distribution<double>(0.3, 0.9)(random));
  server.Kill();
  submits.join();
  P2_RETURN_IF_ERROR(server.Start().status());
  int64_t lost = 0;
  for (const std::string& name : acknowledged) {
    p2::v1::GetJobRequest request;
    request.set_name(name);
    const absl::Status found = client.GetJob(request).status();
    if (!found.ok() && !absl::IsNotFound(found)) return found;
    lost += !found.ok();
  }
  return std::make_pair(static_cast<int64_t>(acknowledged.size()), lost);
}

}  // namespace

absl::StatusOr<nlohmann::ordered_json> RunRestart(const ScenarioOptions& options, ServerUnderTest& server) {
  if (!server.spawned()) return absl::InvalidArgumentError("restart kills p2d: it needs --spawn");
  {
    // The root and the dataset are known from now on.
    P2_ASSIGN_OR_RETURN(const auto cluster, FullCluster::Make(server.grpc(), options.load.seed));
  }
  ClientOptions client_options;
  client_options.address = server.grpc();
  client_options.timeout = absl::Minutes(5);
  P2_ASSIGN_OR_RETURN(const auto client, Client::Connect(client_options));
  P2_ASSIGN_OR_RETURN(const Restarts empty, Restart(server));
  const absl::Time fill = absl::Now();
  P2_RETURN_IF_ERROR(FillEnded(*client, options.load.seed, options.jobs));
  const absl::Duration fill_ended = absl::Now() - fill;
  P2_ASSIGN_OR_RETURN(const Restarts ended, Restart(server));
  P2_RETURN_IF_ERROR(CreateJobs(*client, options.load.seed, kHoldingJob + 1, static_cast<int>(options.live),
                                /*paused=*/false)
                         .status());
  P2_ASSIGN_OR_RETURN(const Restarts full, Restart(server));
  P2_ASSIGN_OR_RETURN(const auto kept, KillUnderSubmits(options, server, *client));
  const auto [acknowledged, lost] = kept;

  const double median = Quantile(full.seconds, 0.5);
  const auto bytes_each = [](const Restarts& before, const Restarts& after, int64_t count) {
    return count == 0 ? 0
                      : static_cast<double>(after.resident_bytes - before.resident_bytes) / static_cast<double>(count);
  };
  return nlohmann::ordered_json{
      {"rate_per_s", static_cast<double>(options.jobs + options.live) / median},
      {"p50_ms", 1000 * median},
      {"p99_ms", 1000 * full.seconds.back()},
      {"ended_jobs", options.jobs},
      {"live_jobs", options.live},
      {"restarts", kRestarts},
      {"empty_ms", 1000 * Quantile(empty.seconds, 0.5)},
      {"ended_only_ms", 1000 * Quantile(ended.seconds, 0.5)},
      {"rss_empty_bytes", empty.resident_bytes},
      {"rss_bytes_per_ended_job", bytes_each(empty, ended, options.jobs)},
      {"rss_bytes_per_queued_job", bytes_each(ended, full, options.live)},
      {"fill_ended_per_s", static_cast<double>(options.jobs) / absl::ToDoubleSeconds(fill_ended)},
      {"acknowledged_before_kill", acknowledged},
      {"lost_acks", lost},
      {"errors", lost}};
}

}  // namespace p2::loadgen
