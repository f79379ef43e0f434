#include "server/scheduler/queue_index.h"

namespace p2::scheduler {

LinePlace PlaceOf(const JobRecord& job) { return {job.order_key, job.create_order, job.id}; }

bool ExplainsWaiting(StatusReason reason) {
  switch (reason) {
    case StatusReason::kWaitingForDevices:
    case StatusReason::kNotEnoughDevices:
    case StatusReason::kRootNotVisible:
    case StatusReason::kDiskFull:
    case StatusReason::kQuotaExceeded:
      return true;
    default:
      return false;
  }
}

void QueueIndex::Add(const JobRecord& job) {
  const auto [shape, added] = ids_.emplace(ShapeOf(job), std::make_pair(last_shape_ + 1, 0));
  if (added) shapes_[++last_shape_] = shape->first;
  ++shape->second.second;
  shape_of_[job.id] = shape->second.first;
  if (job.ready_mono != absl::InfinitePast()) {
    backing_off_.emplace(job.ready_mono, job.id);
    return;
  }
  ready_[job.priority][job.details->project][job.details->owner][shape->second.first].insert(PlaceOf(job));
  ++ready_shapes_[shape->second.first];
  if (!ExplainsWaiting(job.reason)) unexplained_.insert(job.id);
}

void QueueIndex::Told(const JobRecord& job) {
  if (job.ready_mono != absl::InfinitePast()) return;
  if (ExplainsWaiting(job.reason)) {
    unexplained_.erase(job.id);
  } else {
    unexplained_.insert(job.id);
  }
}

void QueueIndex::Remove(const JobRecord& job) {
  const auto of = shape_of_.find(job.id);
  const ShapeId shape = of->second;
  shape_of_.erase(of);
  if (job.ready_mono != absl::InfinitePast()) {
    backing_off_.erase({job.ready_mono, job.id});
  } else {
    // What is left empty goes: a pass looks at every line.
    const auto projects = ready_.find(job.priority);
    const auto owners = projects->second.find(job.details->project);
    const auto lines = owners->second.find(job.details->owner);
    const auto line = lines->second.find(shape);
    line->second.erase(PlaceOf(job));
    if (const auto ready = ready_shapes_.find(shape); --ready->second == 0) ready_shapes_.erase(ready);
    if (line->second.empty()) lines->second.erase(line);
    if (lines->second.empty()) owners->second.erase(lines);
    if (owners->second.empty()) projects->second.erase(owners);
    if (projects->second.empty()) ready_.erase(projects);
    unexplained_.erase(job.id);
  }
  const auto count = ids_.find(shapes_.at(shape));
  if (--count->second.second > 0) return;
  ids_.erase(count);
  shapes_.erase(shape);
}

}  // namespace p2::scheduler
