#include "server/metrics/cluster_gauges.h"

#include <algorithm>
#include <set>
#include <utility>

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
using scheduler::WorkerPtr;
using Labels = std::vector<std::pair<std::string, std::string>>;

constexpr JobState kLiveStates[] = {JobState::kQueued,  JobState::kStarting, JobState::kRunning,
                                    JobState::kPausing, JobState::kPaused,   JobState::kCancelling};
constexpr absl::string_view kLossKinds[] = {"loss", "mse", "vb"};
constexpr absl::string_view kLossSnrPrefix = "loss_snr_";

MetricFamily Family(const char* name, const char* help) {
  MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = prometheus::MetricType::Gauge;
  return family;
}

void Add(MetricFamily& family, const Labels& labels, double value) {
  prometheus::ClientMetric metric;
  for (const auto& [name, label] : labels) metric.label.push_back({name, label});
  metric.gauge.value = value;
  family.metric.push_back(std::move(metric));
}

void AddQueue(const std::vector<JobPtr>& jobs, std::vector<MetricFamily>& out) {
  std::map<std::pair<std::string, std::string>, int> states, reasons;
  for (const JobState state : kLiveStates) states[{std::string(scheduler::JobStateName(state)), "default"}] = 0;
  for (const JobPtr& job : jobs) {
    ++states[{std::string(scheduler::JobStateName(job->state)), job->queue}];
    if (job->state == JobState::kQueued) ++reasons[{job->queue, std::string(ReasonName(job->reason))}];
  }
  MetricFamily by_state = Family(metric::kJobs, "Jobs that have not ended, by state and queue.");
  for (const auto& [key, count] : states) Add(by_state, {{"state", key.first}, {"queue", key.second}}, count);
  MetricFamily pending = Family(metric::kPendingJobs, "Queued jobs, by queue and by the reason why they wait.");
  for (const auto& [key, count] : reasons) Add(pending, {{"queue", key.first}, {"reason", key.second}}, count);
  out.push_back(std::move(by_state));
  out.push_back(std::move(pending));
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

void ClusterGauges::SetValues(const std::string& job, int64_t step, const std::map<std::string, double>& values) {
  absl::MutexLock lock(&mutex_);
  values_[job] = {.step = step, .values = values};
}

void ClusterGauges::ForgetValues(absl::string_view job) {
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
  MetricFamily watchers = Family(metric::kWatchers, "Open watches of jobs and events.");
  Add(watchers, {}, sources.watchers());
  out.push_back(std::move(watchers));
  if (const int64_t free_bytes = sources.free_bytes(); free_bytes >= 0) {
    MetricFamily free = Family(metric::kStoreFreeBytes, "Free space of the data directory's file system.");
    Add(free, {}, static_cast<double>(free_bytes));
    out.push_back(std::move(free));
  }

  // Jobs that have started at least once, the oldest ones if there are too many.
  jobs.erase(std::remove_if(jobs.begin(), jobs.end(), [](const JobPtr& job) { return job->attempt_count == 0; }),
             jobs.end());
  std::sort(jobs.begin(), jobs.end(),
            [](const JobPtr& a, const JobPtr& b) { return a->create_order < b->create_order; });
  if (jobs.size() > metric::kMaxJobSeries) jobs.resize(metric::kMaxJobSeries);
  MetricFamily images = Family(metric::kImagesSeen, "Position of a live job: images seen.");
  MetricFamily rate = Family(metric::kImagesPerSecond, "Images per second of a running job, over about 10 s.");
  MetricFamily steps = Family(metric::kStep, "Last step that a live job reported.");
  MetricFamily loss =
      Family(metric::kLoss, "Last reported loss of a live job: the whole, the weighted MSE, the bound.");
  MetricFamily loss_snr = Family(metric::kLossSnr, "Last reported loss of a live job, by bin of the SNR.");
  MetricFamily grad_norm = Family(metric::kGradNorm, "Last reported gradient norm of a live job.");
  absl::MutexLock lock(&mutex_);
  for (const JobPtr& job : jobs) {
    const std::pair<std::string, std::string> label = {"job_id", job->id};
    Add(images, {label}, static_cast<double>(job->progress.images_seen));
    if (job->state == JobState::kRunning) Add(rate, {label}, job->progress.images_per_second);
    const auto found = values_.find(job->id);
    if (found == values_.end()) continue;
    Add(steps, {label}, static_cast<double>(found->second.step));
    for (const auto& [name, value] : found->second.values) {
      if (std::find(std::begin(kLossKinds), std::end(kLossKinds), name) != std::end(kLossKinds)) {
        Add(loss, {label, {"kind", name}}, value);
      } else if (absl::StartsWith(name, kLossSnrPrefix)) {
        Add(loss_snr, {label, {"bin", name.substr(kLossSnrPrefix.size())}}, value);
      } else if (name == "grad_norm") {
        Add(grad_norm, {label}, value);
      }
    }
  }
  for (MetricFamily* family : {&images, &rate, &steps, &loss, &loss_snr, &grad_norm}) out.push_back(std::move(*family));
  out.erase(std::remove_if(out.begin(), out.end(), [](const MetricFamily& family) { return family.metric.empty(); }),
            out.end());
  return out;
}

}  // namespace p2::metrics
