#include "server/metrics/cluster_gauges.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "common/metric_names.h"
#include "p2/v1/job.pb.h"
#include "prometheus/metric_family.h"
#include "prometheus/metric_type.h"

namespace p2::metrics {
namespace {

using prometheus::MetricFamily;
using scheduler::JobPtr;
using scheduler::JobState;
using scheduler::StatusReason;
using scheduler::WorkerPtr;
using Labels = std::vector<std::pair<std::string, std::string>>;

constexpr JobState kLiveStates[] = {JobState::kQueued,  JobState::kStarting, JobState::kRunning,
                                    JobState::kPausing, JobState::kPaused,   JobState::kCancelling};
// Why a job that nobody holds back stands in the queue: shown also while there is none.
constexpr StatusReason kWaiting[] = {StatusReason::kWaitingForDevices, StatusReason::kNotEnoughDevices,
                                     StatusReason::kRootNotVisible,    StatusReason::kBackoff,
                                     StatusReason::kDiskFull,          StatusReason::kQuotaExceeded,
                                     StatusReason::kReserved};
// Names of the trainer's values (worker/trainer/metric_window.h).
constexpr absl::string_view kLossKinds[] = {"loss", "mse", "mse_weighted", "vb"};
constexpr absl::string_view kLossSnrPrefix = "loss_snr_";
constexpr absl::string_view kEmaDistancePrefix = "ema_distance_";
constexpr absl::string_view kStepSecondsPrefix = "step_seconds_";

MetricFamily Family(const char* name, const char* help, prometheus::MetricType type = prometheus::MetricType::Gauge) {
  MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  return family;
}

void Add(MetricFamily& family, const Labels& labels, double value) {
  prometheus::ClientMetric metric;
  for (const auto& [name, label] : labels) metric.label.push_back({name, label});
  (family.type == prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
  family.metric.push_back(std::move(metric));
}

void AddQueue(const std::vector<JobPtr>& jobs, std::vector<MetricFamily>& out) {
  std::map<std::pair<std::string, std::string>, int> states, reasons;
  std::map<std::string, int> devices = {{"cpu", 0}, {"cuda", 0}, {"any", 0}};
  for (const StatusReason reason : kWaiting) reasons[{"default", std::string(ReasonName(reason))}] = 0;
  for (const JobState state : kLiveStates) states[{std::string(scheduler::JobStateName(state)), "default"}] = 0;
  // Counted by what a job holds, named once: a queue may be 100,000 long, and this is done at every scrape.
  absl::flat_hash_map<std::pair<JobState, absl::string_view>, int> in_state;
  absl::flat_hash_map<std::pair<absl::string_view, StatusReason>, int> for_reason;
  absl::flat_hash_map<absl::string_view, int> of_kind;
  for (const JobPtr& job : jobs) {
    ++in_state[{job->state, job->details->queue}];
    if (job->state != JobState::kQueued) continue;
    ++for_reason[{job->details->queue, job->reason}];
    of_kind[job->needs->kind] += job->needs->devices;
  }
  for (const auto& [key, count] : in_state)
    states[{std::string(scheduler::JobStateName(key.first)), std::string(key.second)}] += count;
  for (const auto& [key, count] : for_reason)
    reasons[{std::string(key.first), std::string(ReasonName(key.second))}] += count;
  for (const auto& [kind, count] : of_kind) devices[kind.empty() ? "any" : std::string(kind)] += count;
  MetricFamily by_state = Family(metric::kJobs, "Jobs that have not ended, by state and queue.");
  for (const auto& [key, count] : states) Add(by_state, {{"state", key.first}, {"queue", key.second}}, count);
  MetricFamily pending = Family(metric::kPendingJobs, "Queued jobs, by queue and by the reason why they wait.");
  for (const auto& [key, count] : reasons) Add(pending, {{"queue", key.first}, {"reason", key.second}}, count);
  MetricFamily wanted = Family(metric::kPendingDevices, "Devices that queued jobs wait for, by the kind they ask for.");
  for (const auto& [kind, count] : devices) Add(wanted, {{"kind", kind}}, count);
  for (MetricFamily* family : {&by_state, &pending, &wanted}) out.push_back(std::move(*family));
}

void AddAccounts(const AccountNumbers& accounts, std::vector<MetricFamily>& out) {
  MetricFamily ratio = Family(metric::kFairShareRatio,
                              "Part of a project in all decayed device time, over its part in all weights: 1 is fair.");
  for (const auto& [project, value] : accounts.fair_share_ratio) Add(ratio, {{"project", project}}, value);
  MetricFamily quota = Family(metric::kQuotaDevices, "Devices that a project may hold for certain.");
  for (const auto& [project, devices] : accounts.quota_devices)
    Add(quota, {{"project", project}, {"kind", "any"}}, devices);
  MetricFamily drift = Family(metric::kLedgerDrift,
                              "Devices by which fair share's count differs from that of live gangs: 0, or a defect.");
  Add(drift, {}, accounts.ledger_drift);
  for (MetricFamily* family : {&ratio, &quota, &drift}) out.push_back(std::move(*family));
}

void AddStore(const ClusterSources& sources, std::vector<MetricFamily>& out) {
  const store::StoreHealth health = sources.store_health();
  MetricFamily stalls = Family(metric::kStoreStallsTotal, "Writes that the job database slowed down or stopped.",
                               prometheus::MetricType::Counter);
  Add(stalls, {}, static_cast<double>(health.stalls));
  MetricFamily error = Family(metric::kStoreBackgroundError, "1 if flushing or compacting the job database failed.");
  Add(error, {}, health.background_error ? 1 : 0);
  out.push_back(std::move(stalls));
  out.push_back(std::move(error));
  if (const int64_t free_bytes = sources.free_bytes(); free_bytes >= 0) {
    MetricFamily free = Family(metric::kStoreFreeBytes, "Free space of the data directory's file system.");
    Add(free, {}, static_cast<double>(free_bytes));
    out.push_back(std::move(free));
  }
}

void AddCluster(const std::vector<WorkerPtr>& workers, absl::Time now, std::vector<MetricFamily>& out) {
  std::map<std::string, int> nodes = {{"ready", 0}, {"suspect", 0}, {"lost", 0}, {"cordoned", 0}, {"draining", 0}};
  MetricFamily ages = Family(metric::kWorkerHeartbeatAgeSeconds, "Time since a worker was last heard of.");
  for (const WorkerPtr& worker : workers) {
    const bool lost = worker->state == scheduler::WorkerState::kLost;
    const bool suspect = worker->state == scheduler::WorkerState::kSuspect;
    ++nodes[lost               ? "lost"
            : suspect          ? "suspect"
            : worker->draining ? "draining"
            : worker->cordoned ? "cordoned"
                               : "ready"];
    if (worker->last_heartbeat_time != absl::InfinitePast()) {
      Add(ages, {{"worker", worker->id}}, std::max(0.0, absl::ToDoubleSeconds(now - worker->last_heartbeat_time)));
    }
  }
  MetricFamily by_state = Family(metric::kNodes, "Workers, by state.");
  for (const auto& [state, count] : nodes) Add(by_state, {{"state", state}}, count);
  out.push_back(std::move(by_state));
  out.push_back(std::move(ages));
}

}  // namespace

absl::string_view ReasonName(scheduler::StatusReason reason) {
  return p2::v1::StatusReason_Name(static_cast<p2::v1::StatusReason>(reason));
}

void ClusterGauges::SetSources(ClusterSources sources) {
  absl::MutexLock lock(&mutex_);
  sources_ = std::move(sources);
}

void ClusterGauges::AddRow(const std::string& job, int64_t step, const std::map<std::string, double>& values) {
  absl::MutexLock lock(&mutex_);
  JobValues& known = values_[job];
  known.step = step;
  known.values = values;
  if (const auto bad = values.find("nonfinite_steps"); bad != values.end()) known.nonfinite_steps += bad->second;
  if (const auto stall = values.find("checkpoint_stall_seconds"); stall != values.end())
    known.checkpoint_stall = stall->second;
  if (const auto lag = values.find("checkpoint_durable_lag_seconds"); lag != values.end())
    known.checkpoint_durable_lag = lag->second;
}

void ClusterGauges::AddRestart(const std::string& job, const std::string& cause) {
  absl::MutexLock lock(&mutex_);
  ++values_[job].restarts[cause];
}

void ClusterGauges::SetCheckpointBytes(const std::string& job, int64_t bytes) {
  absl::MutexLock lock(&mutex_);
  values_[job].checkpoint_bytes = bytes;
}

void ClusterGauges::Forget(absl::string_view job) {
  absl::MutexLock lock(&mutex_);
  if (const auto found = values_.find(job); found != values_.end()) values_.erase(found);
}

std::vector<MetricFamily> ClusterGauges::Collect() const {
  ClusterSources sources;
  {
    absl::MutexLock lock(&mutex_);
    sources = sources_;
  }
  std::vector<MetricFamily> out;
  MetricFamily build = Family(metric::kBuildInfo, "Always 1; the labels tell which p2d this is.");
  Add(build, {{"version", version_}}, 1);
  out.push_back(std::move(build));
  if (sources.live_jobs == nullptr) return out;
  std::vector<JobPtr> jobs = sources.live_jobs();
  AddQueue(jobs, out);
  AddCluster(sources.workers(), sources.now(), out);
  AddStore(sources, out);
  AddAccounts(sources.accounts(), out);
  MetricFamily watchers = Family(metric::kWatchers, "Open watches of jobs and events.");
  Add(watchers, {}, sources.watchers());
  out.push_back(std::move(watchers));
  AddJobs(std::move(jobs), out);
  out.erase(std::remove_if(out.begin(), out.end(), [](const MetricFamily& family) { return family.metric.empty(); }),
            out.end());
  return out;
}

void ClusterGauges::AddJobs(std::vector<JobPtr> jobs, std::vector<MetricFamily>& out) const {
  constexpr auto kCounter = prometheus::MetricType::Counter;
  std::erase_if(jobs, [](const JobPtr& job) { return job->attempt_count == 0; });
  std::sort(jobs.begin(), jobs.end(),
            [](const JobPtr& a, const JobPtr& b) { return a->create_order < b->create_order; });
  if (jobs.size() > metric::kMaxJobSeries) jobs.resize(metric::kMaxJobSeries);
  MetricFamily images = Family(metric::kImagesSeen, "Position of a live job: images seen.");
  MetricFamily rate = Family(metric::kImagesPerSecond, "Images per second of a running job, over about 10 s.");
  MetricFamily steps = Family(metric::kStep, "Last step that a live job reported.");
  MetricFamily step_seconds = Family(metric::kStepSeconds,
                                     "Mean time of a step of a live job's rank 0 over the last reported interval, by "
                                     "phase; the phases add up to the step.");
  MetricFamily loss = Family(metric::kLoss,
                             "Last reported loss of a live job: the whole that is minimized (loss), the MSE of the "
                             "noise without and with its weights (mse, mse_weighted), the variational bound (vb).");
  MetricFamily loss_snr = Family(metric::kLossSnr, "Last reported MSE of a live job, unweighted, by bin of the SNR.");
  MetricFamily grad_norm = Family(metric::kGradNorm, "Last reported gradient norm of a live job.");
  MetricFamily ema_distance =
      Family(metric::kEmaDistance,
             "Last reported distance of a live job's averages from the weights, |ema - w| / |w|, by average.");
  MetricFamily nonfinite =
      Family(metric::kNonfiniteStepsTotal, "Steps of a live job that changed nothing because a number was not finite.",
             kCounter);
  MetricFamily restarts =
      Family(metric::kRestartsTotal, "Attempts of a live job that failed or were abandoned, by the class of the cause.",
             kCounter);
  MetricFamily checkpoints =
      Family(metric::kCheckpointBytes, "Size of all checkpoints that a live job has on storage.");
  MetricFamily stall = Family(metric::kCheckpointStallSeconds,
                              "How long training of a live job stood still for its last reported checkpoint.");
  MetricFamily lag = Family(metric::kCheckpointDurableLagSeconds,
                            "From the copy of a live job's state to its durable checkpoint, of the last reported one.");
  const JobValues nothing;
  for (const JobPtr& job : jobs) {
    absl::MutexLock lock(&mutex_);  // Of each: who has news of a job does not wait for all.
    const std::pair<std::string, std::string> label = {"job_id", job->id};
    Add(images, {label}, static_cast<double>(job->progress.images_seen));
    if (job->state == JobState::kRunning) Add(rate, {label}, job->progress.images_per_second);
    const auto found = values_.find(job->id);
    const JobValues& known = found == values_.end() ? nothing : found->second;
    if (known.step.has_value()) {
      Add(steps, {label}, static_cast<double>(*known.step));
      Add(nonfinite, {label}, known.nonfinite_steps);
    }
    Add(checkpoints, {label}, static_cast<double>(known.checkpoint_bytes));
    if (known.checkpoint_stall.has_value()) Add(stall, {label}, *known.checkpoint_stall);
    if (known.checkpoint_durable_lag.has_value()) Add(lag, {label}, *known.checkpoint_durable_lag);
    for (const auto& [cause, count] : known.restarts)
      Add(restarts, {label, {"class", cause}}, static_cast<double>(count));
    for (const auto& [name, value] : known.values) {
      if (std::find(std::begin(kLossKinds), std::end(kLossKinds), name) != std::end(kLossKinds)) {
        Add(loss, {label, {"kind", name}}, value);
      } else if (absl::StartsWith(name, kLossSnrPrefix)) {
        Add(loss_snr, {label, {"bin", name.substr(kLossSnrPrefix.size())}}, value);
      } else if (absl::StartsWith(name, kEmaDistancePrefix)) {
        Add(ema_distance, {label, {"profile", name.substr(kEmaDistancePrefix.size())}}, value);
      } else if (absl::StartsWith(name, kStepSecondsPrefix)) {
        Add(step_seconds, {label, {"phase", name.substr(kStepSecondsPrefix.size())}}, value);
      } else if (name == "grad_norm") {
        Add(grad_norm, {label}, value);
      }
    }
  }
  for (MetricFamily* family : {&images, &rate, &steps, &step_seconds, &loss, &loss_snr, &grad_norm, &ema_distance,
                               &nonfinite, &restarts, &stall, &lag, &checkpoints})
    out.push_back(std::move(*family));
}

}  // namespace p2::metrics
