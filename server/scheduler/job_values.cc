#include "server/scheduler/job_values.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/hash/hash.h"

namespace p2::scheduler {
namespace {

template <typename Values, typename T>
bool LendFrom(const Values& values, Shared<T>& value) {
  const auto known = values.find(value);
  if (known == values.end()) return false;
  value = *known;
  return true;
}

}  // namespace

size_t JobValues::Hash::operator()(const Shared<JobNeeds>& needs) const {
  return absl::HashOf(needs->devices, needs->devices_min, needs->kind, needs->dataset, needs->checkpoint_root,
                      needs->images_total, needs->source.job, needs->source.checkpoint);
}

size_t JobValues::Hash::operator()(const Shared<JobDetails>& details) const {
  return absl::HashOf(details->spec_sha256, details->task, details->owner, details->project, details->queue,
                      details->note, details->labels.size());
}

template <typename T>
void JobValues::Pool<T>::Remember(const Shared<T>& value) {
  if (!values.insert(value).second || values.size() < sweep_at) return;
  absl::erase_if(values, [](const Shared<T>& it) { return it.IsOnlyHolder(); });
  sweep_at = std::max<size_t>(64, 2 * values.size());
}

void JobValues::Unify(JobRecord& job) {
  if (!Lend(job)) Remember(job);
}

bool JobValues::Lend(JobRecord& job) const {
  const bool needs = LendFrom(needs_.values, job.needs), details = LendFrom(details_.values, job.details);
  return needs && details;
}

void JobValues::Remember(const JobRecord& job) {
  needs_.Remember(job.needs);
  details_.Remember(job.details);
}

}  // namespace p2::scheduler
