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
  worker_list_ = nullptr;
  dataset_list_ = nullptr;
}

void ReadView::Apply(absl::Span<const scheduler::Mutation> mutations) {
  absl::MutexLock lock(&mutex_);
  for (const scheduler::Mutation& mutation : mutations) {
    if (const auto* job = std::get_if<scheduler::PutJob>(&mutation)) {
      if (scheduler::IsTerminal(job->job->state)) {
        jobs_.Erase(job->job->id);
      } else {
        jobs_.Put(job->job);
      }
    } else if (const auto* worker = std::get_if<scheduler::PutWorker>(&mutation)) {
      workers_[worker->worker->id] = worker->worker;
      worker_list_ = nullptr;
    } else if (const auto* dataset = std::get_if<scheduler::PutDataset>(&mutation)) {
      datasets_[dataset->dataset->id] = dataset->dataset;
      dataset_list_ = nullptr;
    }
  }
}

scheduler::JobPtr ReadView::FindJob(absl::string_view id) const {
  absl::MutexLock lock(&mutex_);
  return jobs_.Find(id);
}

std::vector<scheduler::JobPtr> ReadView::Jobs() const {
  absl::MutexLock lock(&mutex_);
  return jobs_.All();
}

WorkerList ReadView::Workers() const {
  absl::MutexLock lock(&mutex_);
  if (worker_list_ == nullptr)
    worker_list_ = std::make_shared<const std::vector<scheduler::WorkerPtr>>(ValuesOf(workers_));
  return worker_list_;
}

DatasetList ReadView::Datasets() const {
  absl::MutexLock lock(&mutex_);
  if (dataset_list_ == nullptr)
    dataset_list_ = std::make_shared<const std::vector<scheduler::DatasetPtr>>(ValuesOf(datasets_));
  return dataset_list_;
}

}  // namespace p2::coordinator
