// How long devices stand still between two jobs of a full queue, and how long a large gang takes to meet.
#include <algorithm>
#include <map>
#include <set>
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

constexpr int kRanks = 64;
constexpr int kSlotsOfWorker = 8;
constexpr absl::Duration kGangTimeout = absl::Seconds(60);

// Jobs that end as soon as they have started, on the devices of several workers.
class ShortJobs : public Gang {
 public:
  // Measured: jobs whose predecessor on the device ended in [from, to).
  ShortJobs(absl::Time from, absl::Time to) : from_(from), to_(to) {}

  std::vector<double> gaps_ms() {
    absl::MutexLock lock(&mutex_);
    return gaps_ms_;
  }
  absl::Time last_start() {
    absl::MutexLock lock(&mutex_);
    return last_start_;
  }

 private:
  void OnStart(FakeWorker& worker, const p2::v1::Start& start) override {
    const std::vector<p2::v1::PlacedRank> ranks = worker.RanksOf(start);
    {
      absl::MutexLock lock(&mutex_);
      last_start_ = absl::Now();
      for (const p2::v1::PlacedRank& rank : ranks) {
        const auto [free, first] = free_since_.try_emplace({&worker, rank.slot()}, last_start_);
        if (!first && free->second >= from_ && free->second < to_)
          gaps_ms_.push_back(absl::ToDoubleMilliseconds(last_start_ - free->second));
        free->second = last_start_;
      }
    }
    worker.Finish(start);
  }

  const absl::Time from_, to_;

  absl::Mutex mutex_;
  // By worker and slot.
  std::map<std::pair<const FakeWorker*, std::string>, absl::Time> free_since_ ABSL_GUARDED_BY(mutex_);
  std::vector<double> gaps_ms_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_start_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

absl::StatusOr<nlohmann::ordered_json> MeasureGaps(const ScenarioOptions& options, const std::string& address,
                                                   Client& client) {
  const int queued = static_cast<int>(options.live);
  P2_RETURN_IF_ERROR(
      CreateJobs(client, options.load.seed, 0, queued, /*paused=*/false, {"resources.devices=1"}).status());
  const absl::Time from = absl::Now() + options.load.warm_up, to = from + options.load.duration / 2;
  ShortJobs jobs(from, to);
  std::vector<std::unique_ptr<FakeWorker>> workers;
  for (int devices = options.load.clients; devices > 0; devices -= kSlotsOfWorker) {
    P2_ASSIGN_OR_RETURN(workers.emplace_back(), FakeWorker::Connect({.address = address,
                                                                     .name = absl::StrCat("short-", workers.size()),
                                                                     .slots = std::min(devices, kSlotsOfWorker)},
                                                                    jobs));
  }
  absl::SleepFor(to - absl::Now());
  workers.clear();
  std::vector<double> gaps = jobs.gaps_ms();
  std::sort(gaps.begin(), gaps.end());
  // The queue may have run dry before.
  const absl::Duration taken = std::min(to, jobs.last_start()) - from;
  return nlohmann::ordered_json{{"rate_per_s", static_cast<double>(gaps.size()) / absl::ToDoubleSeconds(taken)},
                                {"p50_ms", Quantile(gaps, 0.5)},
                                {"p99_ms", Quantile(gaps, 0.99)},
                                {"devices", options.load.clients},
                                {"queued", queued},
                                {"queue_ran_dry", jobs.last_start() < to - absl::Seconds(1)}};
}

// One job at a time, with a rank on each of kRanks workers; it ends when all have started.
class LargeGang : public Gang {
 public:
  // Until all ranks of the next job have started, and were told to end.
  absl::Status Await() {
    absl::MutexLock lock(&mutex_);
    const auto met = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return started_.size() == kRanks; };
    if (!mutex_.AwaitWithTimeout(absl::Condition(&met), kGangTimeout))
      return absl::DeadlineExceededError(absl::StrCat(started_.size(), " of ", kRanks, " ranks were started"));
    for (auto& [worker, start] : started_) worker->Finish(start);
    started_.clear();
    return absl::OkStatus();
  }

 private:
  void OnStart(FakeWorker& worker, const p2::v1::Start& start) override {
    absl::MutexLock lock(&mutex_);
    started_.emplace_back(&worker, start);
  }

  absl::Mutex mutex_;
  std::vector<std::pair<FakeWorker*, p2::v1::Start>> started_ ABSL_GUARDED_BY(mutex_);
};

absl::Status AwaitSuccess(Client& client, const std::string& name) {
  p2::v1::GetJobRequest request;
  request.set_name(name);
  for (const absl::Time begin = absl::Now(); absl::Now() - begin < kGangTimeout;) {
    P2_ASSIGN_OR_RETURN(const p2::v1::Job job, client.GetJob(request));
    if (job.state() == p2::v1::Job::SUCCEEDED) return absl::OkStatus();
    absl::SleepFor(absl::Milliseconds(1));
  }
  return absl::DeadlineExceededError(absl::StrCat(name, " did not succeed"));
}

// From the call that submits a gang to the start of its last rank; sorted.
absl::StatusOr<std::vector<double>> MeasureGangs(const ScenarioOptions& options, const std::string& address,
                                                 Client& client) {
  LargeGang gang;
  std::vector<std::unique_ptr<FakeWorker>> workers;
  for (int i = 0; i < kRanks; ++i) {
    P2_ASSIGN_OR_RETURN(workers.emplace_back(),
                        FakeWorker::Connect({.address = address, .name = absl::StrCat("gang-", i)}, gang));
  }
  std::vector<double> times;
  for (const absl::Time begin = absl::Now(); times.empty() || absl::Now() - begin < options.load.duration / 2;) {
    const absl::Time due = absl::Now();
    P2_ASSIGN_OR_RETURN(const p2::v1::CreateJobResponse created,
                        client.CreateJob(JobRequest(
                            options.load.seed, kHoldingJob + 1 + static_cast<int64_t>(times.size()),
                            {absl::StrCat("resources.devices=", kRanks), absl::StrCat("training.batch=", kRanks)})));
    P2_RETURN_IF_ERROR(gang.Await());
    times.push_back(absl::ToDoubleMilliseconds(absl::Now() - due));
    P2_RETURN_IF_ERROR(AwaitSuccess(client, created.job().name()));
  }
  std::sort(times.begin(), times.end());
  return times;
}

}  // namespace

absl::StatusOr<nlohmann::ordered_json> RunSchedule(const ScenarioOptions& options, ServerUnderTest& server) {
  P2_ASSIGN_OR_RETURN(const auto cluster, FullCluster::Make(server.grpc(), options.load.seed));
  P2_ASSIGN_OR_RETURN(const std::vector<double> gangs, MeasureGangs(options, server.grpc(), cluster->client()));
  P2_ASSIGN_OR_RETURN(nlohmann::ordered_json json, MeasureGaps(options, server.grpc(), cluster->client()));
  json["gang_ranks"] = kRanks;
  json["gangs"] = gangs.size();
  json["gang_p50_ms"] = Quantile(gangs, 0.5);
  json["gang_p99_ms"] = Quantile(gangs, 0.99);
  json["errors"] = 0;
  return json;
}

}  // namespace p2::loadgen
