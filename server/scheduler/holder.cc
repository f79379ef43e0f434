#include "server/scheduler/holder.h"

#include <algorithm>

#include "server/scheduler/shares.h"

namespace p2::scheduler {
namespace {

// Images seen at the newest good one; 0: there is none.
int64_t NewestSaved(const Checkpoints& checkpoints) {
  const auto newest = std::find_if(checkpoints.rbegin(), checkpoints.rend(), [](const auto& entry) {
    return entry.second->state == CheckpointState::kCommitted;
  });
  return newest == checkpoints.rend() ? 0 : newest->second->images_seen;
}

}  // namespace

Holder Holder::Of(const JobRecord& job, const Checkpoints& checkpoints) {
  Holder holder;
  holder.priority = job.priority;
  holder.devices = HeldDevices(job);
  holder.stopping = job.live_attempt()->stop_mode != StopMode::kNone;
  holder.preemptible = (job.state == JobState::kRunning || job.state == JobState::kStarting) && job.needs->preemptible;
  holder.churn = job.churn;
  holder.churn_since_mono = job.churn_since_mono;
  holder.unsaved = std::max<int64_t>(0, job.progress.images_seen - NewestSaved(checkpoints));
  holder.device_rate = job.device_rate;
  return holder;
}

double Holder::Price(absl::Duration restart_cost) const {
  const double restart = absl::ToDoubleSeconds(restart_cost) * device_rate * devices;
  return (static_cast<double>(unsaved) + restart) * devices;
}

}  // namespace p2::scheduler
