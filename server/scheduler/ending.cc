#include "server/scheduler/ending.h"

#include <algorithm>
#include <tuple>

namespace p2::scheduler {

absl::Duration PredictedRun(const JobRecord& job, int devices) {
  if (job.device_rate <= 0 || job.needs->images_total <= 0) return absl::InfiniteDuration();
  const int64_t left = std::max<int64_t>(0, job.needs->images_total - job.progress.images_seen);
  return absl::Seconds(static_cast<double>(left) / (job.device_rate * devices));
}

absl::Duration PredictedRest(const JobRecord& job) {
  const Attempt& attempt = *job.live_attempt();
  if (attempt.stop_mode != StopMode::kNone) return job.needs->stop_deadline;
  return PredictedRun(job, static_cast<int>(attempt.ranks.size()));
}

Ending Ending::Of(const JobPtr& job) { return {PredictedRest(*job), job->live_attempt()->create_time, job}; }

bool Ending::operator<(const Ending& other) const {
  return std::tie(rest, began, job->id) < std::tie(other.rest, other.began, other.job->id);
}

}  // namespace p2::scheduler
