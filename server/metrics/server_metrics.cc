#include "server/metrics/server_metrics.h"

#include <algorithm>
#include <set>
#include <utility>
#include <variant>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/metric_names.h"
#include "server/scheduler/action.h"

namespace p2::metrics {
namespace {

// The reason of the trainer's notice (worker/trainer/checkpointer.cc).
constexpr absl::string_view kCheckpointFailed = "CHECKPOINT_FAILED";

using Buckets = prometheus::Histogram::BucketBoundaries;

const Buckets kWaitBuckets = {0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400};
const Buckets kGangBuckets = {0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60};
const Buckets kCycleBuckets = {0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 1};
const Buckets kWriteBuckets = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5};
const Buckets kRpcBuckets = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30};

prometheus::Histogram& MakeHistogram(prometheus::Registry& registry, const char* name, const char* help,
                                     const Buckets& buckets) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
}

prometheus::Counter& MakeCounter(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
}

}  // namespace

ServerMetrics::ServerMetrics(const std::string& version)
    : gauges_(std::make_shared<ClusterGauges>(version)),
      queue_wait_(MakeHistogram(*registry_, metric::kQueueWaitSeconds, "From a job's creation to its first attempt.",
                                kWaitBuckets)),
      gang_start_(MakeHistogram(*registry_, metric::kGangStartSeconds,
                                "From the reservation of a gang to the moment when all its ranks run.", kGangBuckets)),
      scheduler_cycle_(MakeHistogram(*registry_, metric::kSchedulerCycleSeconds,
                                     "Decisions of one round over the events that had come, without their write.",
                                     kCycleBuckets)),
      store_write_(MakeHistogram(*registry_, metric::kStoreWriteSeconds,
                                 "One synced batch of the job database, its commit counter included.", kWriteBuckets)),
      admissions_(MakeCounter(*registry_, metric::kAdmissionsTotal, "Jobs that were created.")),
      preemptions_(prometheus::BuildCounter()
                       .Name(metric::kPreemptionsTotal)
                       .Help("Attempts that made room for another job, by reason: preempted (its priority or quota), "
                             "yielded (the devices were reserved for it).")
                       .Register(*registry_)),
      preempted_lost_images_(MakeCounter(*registry_, metric::kPreemptedLostImagesTotal,
                                         "Images that such attempts had seen and no checkpoint holds.")),
      epoch_conflicts_(MakeCounter(*registry_, metric::kLeaseEpochConflictsTotal,
                                   "Reports of workers that had no effect: a stale epoch or an unknown job.")),
      checkpoint_failures_(
          MakeCounter(*registry_, metric::kCheckpointFailuresTotal, "Checkpoints that a trainer could not write.")),
      rpc_handled_(prometheus::BuildCounter()
                       .Name(metric::kRpcHandledTotal)
                       .Help("RPCs that ended, by service, method and code.")
                       .Register(*registry_)),
      rpc_seconds_(prometheus::BuildHistogram()
                       .Name(metric::kRpcHandlingSeconds)
                       .Help("Time from an RPC's begin to its end.")
                       .Register(*registry_)) {
  for (const char* reason : {"preempted", "yielded"}) preemptions_.Add({{"reason", reason}});
}

void ServerMetrics::OnMadeRoom(const scheduler::JobRecord& job) {
  const scheduler::Attempt& attempt = *job.attempts.back();
  if (attempt.reason != scheduler::StatusReason::kPreempted && attempt.reason != scheduler::StatusReason::kYielded)
    return;
  preemptions_.Add({{"reason", absl::AsciiStrToLower(ReasonName(attempt.reason))}}).Increment();
  preempted_lost_images_.Increment(
      static_cast<double>(std::max<int64_t>(0, attempt.end_images_seen - job.progress.images_seen)));
}

void ServerMetrics::OnJob(const scheduler::JobRecord& job) {
  const bool first = seen_.count(job.id) == 0;
  Seen& seen = seen_[job.id];
  const bool created = first && job.update_time == job.create_time;
  if (created) admissions_.Increment();
  if (!job.attempts.empty()) {
    const scheduler::Attempt& attempt = *job.attempts.back();
    const bool started = attempt.start_time != absl::InfinitePast();
    const bool known = !first && attempt.number == seen.attempt;
    // A job that finds its devices at once comes with its first attempt.
    if ((created || !first) && !known && attempt.number == 1) {
      queue_wait_.Observe(absl::ToDoubleSeconds(attempt.create_time - job.create_time));
    }
    if (started && !first && !(known && seen.started)) {
      gang_start_.Observe(absl::ToDoubleSeconds(attempt.start_time - attempt.create_time));
    }
    const bool failed =
        attempt.outcome == scheduler::Outcome::kFailed || attempt.outcome == scheduler::Outcome::kAbandoned;
    if (failed && known && seen.live) {
      gauges_->AddRestart(job.id, absl::AsciiStrToLower(ReasonName(attempt.reason)));
    }
    if (known && seen.live && !attempt.live()) OnMadeRoom(job);
    seen = {.attempt = attempt.number, .live = attempt.live(), .started = started};
  }
  if (!scheduler::IsTerminal(job.state)) return;
  gauges_->Forget(job.id);
  seen_.erase(job.id);
}

void ServerMetrics::CountCheckpoints(const scheduler::ClusterState& state,
                                     absl::Span<const scheduler::Mutation> mutations) {
  std::set<std::string> changed;
  if (!std::exchange(counted_checkpoints_, true)) {
    // Most that wait have none: there is nothing to keep for them.
    for (const scheduler::JobPtr& job : state.live_jobs().All()) {
      if (!state.CheckpointsOf(job->id).empty()) changed.insert(job->id);
    }
  }
  for (const scheduler::Mutation& mutation : mutations) {
    if (const auto* put = std::get_if<scheduler::PutCheckpoint>(&mutation)) changed.insert(put->checkpoint->job);
    if (const auto* erase = std::get_if<scheduler::EraseCheckpoint>(&mutation)) changed.insert(erase->job);
  }
  for (const std::string& id : changed) {
    if (state.live_jobs().Find(id) == nullptr) continue;
    int64_t bytes = 0;
    for (const auto& [key, checkpoint] : state.CheckpointsOf(id)) bytes += checkpoint->size_bytes;
    gauges_->SetCheckpointBytes(id, bytes);
  }
}

void ServerMetrics::OnCommit(const scheduler::ClusterState& state, absl::Span<const scheduler::Mutation> mutations,
                             absl::Duration step_time, absl::Duration write_time) {
  scheduler_cycle_.Observe(absl::ToDoubleSeconds(step_time));
  if (write_time > absl::ZeroDuration()) store_write_.Observe(absl::ToDoubleSeconds(write_time));
  for (const scheduler::Mutation& mutation : mutations) {
    if (const auto* put = std::get_if<scheduler::PutJob>(&mutation); put != nullptr) {
      OnJob(*put->job);
    } else if (const auto* append = std::get_if<scheduler::AppendMetrics>(&mutation); append != nullptr) {
      if (seen_.count(append->job) > 0) gauges_->AddRow(append->job, append->step, append->values);
    } else if (const auto* event = std::get_if<scheduler::AppendEvent>(&mutation); event != nullptr) {
      if (event->event.reason == kCheckpointFailed) checkpoint_failures_.Increment();
    } else if (const auto* erase = std::get_if<scheduler::EraseJob>(&mutation); erase != nullptr) {
      gauges_->Forget(erase->job);
      seen_.erase(erase->job);
    }
  }
  CountCheckpoints(state, mutations);
}

void ServerMetrics::OnRefused(absl::string_view, absl::string_view) { epoch_conflicts_.Increment(); }

void ServerMetrics::OnRpc(const std::string& service, const std::string& method, const std::string& code,
                          absl::Duration taken) {
  const RpcSeries series = RpcSeriesOf(service, method, code);
  series.handled->Increment();
  series.seconds->Observe(absl::ToDoubleSeconds(taken));
}

ServerMetrics::RpcSeries ServerMetrics::RpcSeriesOf(const std::string& service, const std::string& method,
                                                    const std::string& code) {
  const std::string key = absl::StrCat(service, "/", method, " ", code);
  absl::MutexLock lock(&mutex_);
  RpcSeries& series = rpc_series_[key];
  if (series.handled == nullptr) {
    series = {&rpc_handled_.Add({{"grpc_service", service}, {"grpc_method", method}, {"grpc_code", code}}),
              &rpc_seconds_.Add({{"grpc_service", service}, {"grpc_method", method}}, kRpcBuckets)};
  }
  return series;
}

}  // namespace p2::metrics
