#include "server/coordinator/read_view.h"

#include <variant>

namespace p2::coordinator {
namespace {

template <typename Map>
std::vector<typename Map::mapped_type> ValuesOf(const Map& map) {
  std::vector<typename Map::mapped_type> values;
  values.reserve(map.size());
  for (const auto& [key, value] : map) values.push_back(value);
  return values;
}

}  // namespace

void ReadView::Reset(const scheduler::ClusterState& state) {
  absl::MutexLock lock(&mutex_);
  jobs_ = state.live_jobs();
  workers_ = state.workers();
  datasets_ = state.datasets();
}

void ReadView::Apply(absl::Span<const scheduler::Mutation> mutations) {
  absl::MutexLock lock(&mutex_);
  for (const scheduler::Mutation& mutation : mutations) {
    if (const auto* job = std::get_if<scheduler::PutJob>(&mutation)) {
      if (scheduler::IsTerminal(job->job->state)) {
        jobs_.erase(job->job->id);
      } else {
        jobs_[job->job->id] = job->job;
      }
    } else if (const auto* worker = std::get_if<scheduler::PutWorker>(&mutation)) {
      workers_[worker->worker->id] = worker->worker;
    } else if (const auto* dataset = std::get_if<scheduler::PutDataset>(&mutation)) {
      datasets_[dataset->dataset->id] = dataset->dataset;
    }
  }
}

scheduler::JobPtr ReadView::FindJob(absl::string_view id) const {
  absl::MutexLock lock(&mutex_);
  auto it = jobs_.find(id);
  return it == jobs_.end() ? nullptr : it->second;
}

std::vector<scheduler::JobPtr> ReadView::Jobs() const {
  absl::MutexLock lock(&mutex_);
  return ValuesOf(jobs_);
}

std::vector<scheduler::WorkerPtr> ReadView::Workers() const {
  absl::MutexLock lock(&mutex_);
  return ValuesOf(workers_);
}

std::vector<scheduler::DatasetPtr> ReadView::Datasets() const {
  absl::MutexLock lock(&mutex_);
  return ValuesOf(datasets_);
}

}  // namespace p2::coordinator
