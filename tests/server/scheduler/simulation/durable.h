// Equality of what is on disk: a record less its members that are "volatile" or that every process sets anew.
#pragma once

#include "server/scheduler/types.h"

namespace p2::scheduler {

bool DurablyEqual(const JobRecord& a, const JobRecord& b);
// Less spool_acked, which is stored apart.
bool DurablyEqual(const WorkerRecord& a, const WorkerRecord& b);

}  // namespace p2::scheduler
