// Which queued job comes first.
#pragma once

#include <vector>

#include "server/scheduler/types.h"

namespace p2::scheduler {

// Strict weak order of queued jobs: higher priority first, then the older (create_order), then the ID.
bool ComesBefore(const JobRecord& a, const JobRecord& b);

// The QUEUED ones among `jobs`, in that order.
std::vector<const JobRecord*> QueueOrder(const std::vector<const JobRecord*>& jobs);

}  // namespace p2::scheduler
