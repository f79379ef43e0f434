#include "server/scheduler/queue_order.h"

#include <algorithm>
#include <tuple>

namespace p2::scheduler {

bool ComesBefore(const JobRecord& a, const JobRecord& b) {
  return std::forward_as_tuple(-a.priority, a.create_order, a.id) <
         std::forward_as_tuple(-b.priority, b.create_order, b.id);
}

std::vector<const JobRecord*> QueueOrder(const std::vector<const JobRecord*>& jobs) {
  std::vector<const JobRecord*> queued;
  std::copy_if(jobs.begin(), jobs.end(), std::back_inserter(queued),
               [](const JobRecord* job) { return job->state == JobState::kQueued; });
  std::sort(queued.begin(), queued.end(), [](const JobRecord* a, const JobRecord* b) { return ComesBefore(*a, *b); });
  return queued;
}

}  // namespace p2::scheduler
