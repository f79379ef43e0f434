#include "server/scheduler/queue_index.h"

#include <utility>

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

QueueIndex::ShapeId QueueIndex::IdOf(JobShape wants) {
  const auto [it, added] = ids_.emplace(std::move(wants), static_cast<ShapeId>(shapes_.size()));
  if (!added) return it->second;
  if (unused_.empty()) {
    shapes_.emplace_back();
  } else {
    it->second = unused_.back();
    unused_.pop_back();
  }
  shapes_[it->second] = {it->first, ++last_serial_, 0, 0};
  return it->second;
}

void QueueIndex::Add(const JobRecord& job) {
  const ShapeId id = IdOf(ShapeOf(job));
  Shape& shape = shapes_[id];
  ++shape.queued;
  shape_of_[job.id] = id;
  if (job.ready_mono != absl::InfinitePast()) {
    backing_off_.emplace(job.ready_mono, job.id);
    return;
  }
  ready_[job.priority][job.details->project][job.details->owner][id].insert(PlaceOf(job));
  if (++shape.ready == 1) ++ready_shapes_;
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
  const ShapeId id = of->second;
  Shape& shape = shapes_[id];
  shape_of_.erase(of);
  if (job.ready_mono != absl::InfinitePast()) {
    backing_off_.erase({job.ready_mono, job.id});
  } else {
    // What is left empty goes: a pass looks at every line.
    const auto projects = ready_.find(job.priority);
    const auto owners = projects->second.find(job.details->project);
    const auto lines = owners->second.find(job.details->owner);
    const auto line = lines->second.find(id);
    line->second.erase(PlaceOf(job));
    if (--shape.ready == 0) --ready_shapes_;
    if (line->second.empty()) lines->second.erase(line);
    if (lines->second.empty()) owners->second.erase(lines);
    if (owners->second.empty()) projects->second.erase(owners);
    if (projects->second.empty()) ready_.erase(projects);
    unexplained_.erase(job.id);
  }
  if (--shape.queued > 0) return;
  ids_.erase(shape.wants);
  shape = {};
  unused_.push_back(id);
}

}  // namespace p2::scheduler
