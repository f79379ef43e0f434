#include "client/p2ctl/job_monitor.h"

#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "client/p2ctl/job_view.h"

namespace p2::ctl {
namespace {

constexpr absl::Duration kRefresh = absl::Seconds(1);

}  // namespace

JobMonitor::JobMonitor(Client& client, const std::vector<v1::Job>& jobs, std::string metric)
    : client_(client), metric_(std::move(metric)) {
  v1::WatchJobsRequest request;
  {
    absl::MutexLock lock(&mutex_);
    for (const v1::Job& job : jobs) {
      request.add_names(job.name());
      watched_[job.name()].job = job;
      refreshed_[job.name()] = absl::Now();
    }
  }
  watch_ = client_.WatchJobs(request);
  if (!metric_.empty()) {
    for (const v1::Job& job : jobs) {
      v1::StreamMetricsRequest metric_request;
      metric_request.set_job(job.name());
      metric_request.add_metrics(metric_);
      metrics_[job.name()] = client_.StreamMetrics(metric_request);
    }
  }
  threads_.emplace_back([this] { Watch(); });
  for (const auto& [name, stream] : metrics_) {
    threads_.emplace_back([this, name = name, stream = stream.get()] { ReadMetric(name, *stream); });
  }
}

JobMonitor::~JobMonitor() {
  watch_->Cancel();
  for (const auto& [name, stream] : metrics_) stream->Cancel();
  for (std::thread& thread : threads_) thread.join();
}

void JobMonitor::Wake() {
  absl::MutexLock lock(&mutex_);
  changed_ = true;
}

void JobMonitor::Fail(const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  if (error_.ok() && !absl::IsCancelled(status)) error_ = status;
  changed_ = true;
}

void JobMonitor::Watch() {
  while (true) {
    absl::StatusOr<std::optional<v1::WatchJobsResponse>> event = watch_->Next();
    if (!event.ok() || !event->has_value()) return Fail(event.status());
    absl::MutexLock lock(&mutex_);
    const auto found = watched_.find((*event)->job().name());
    if (found == watched_.end()) continue;
    found->second.deleted = (*event)->type() == v1::WatchJobsResponse::DELETED;
    if (!found->second.deleted) found->second.job = std::move(*(*event)->mutable_job());
    changed_ = true;
  }
}

void JobMonitor::ReadMetric(const std::string& name, Stream<v1::StreamMetricsResponse>& stream) {
  while (true) {
    const absl::StatusOr<std::optional<v1::StreamMetricsResponse>> row = stream.Next();
    if (!row.ok()) return Fail(row.status());
    absl::MutexLock lock(&mutex_);
    changed_ = true;
    Watched& watched = watched_[name];
    if (!row->has_value()) {
      watched.values_complete = true;
      return;
    }
    if (const auto value = (*row)->values().find(metric_); value != (*row)->values().end()) {
      watched.values.push_back(value->second);
    }
  }
}

void JobMonitor::WaitForChange(absl::Duration timeout) {
  Refresh();
  absl::MutexLock lock(&mutex_);
  mutex_.AwaitWithTimeout(absl::Condition(&changed_), timeout);
  changed_ = false;
}

// The watch tells of changes of state; where progress alone moves, the job is read again.
void JobMonitor::Refresh() {
  const absl::Time now = absl::Now();
  for (const auto& [name, watched] : Snapshot()) {
    absl::Time& last = refreshed_[name];
    if (watched.deleted || watched.job.state() != v1::Job::RUNNING || now - last < kRefresh) continue;
    last = now;
    v1::GetJobRequest request;
    request.set_name(name);
    const absl::StatusOr<v1::Job> job = client_.GetJob(request);
    server_away_ = absl::IsUnavailable(job.status());
    if (!job.ok()) continue;
    absl::MutexLock lock(&mutex_);
    // A state that the watch brought meanwhile is newer than this answer.
    v1::Job& known = watched_[name].job;
    if (known.etag() == watched.job.etag()) known = *job;
    changed_ = true;
  }
}

std::map<std::string, JobMonitor::Watched> JobMonitor::Snapshot() {
  absl::MutexLock lock(&mutex_);
  return watched_;
}

absl::Status JobMonitor::error() {
  absl::MutexLock lock(&mutex_);
  return error_;
}

}  // namespace p2::ctl
