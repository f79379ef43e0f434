// What of a worker is held, and who may use the rest. Where gangs go is found by slot_index.h.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/scheduler/types.h"

namespace p2::scheduler {

// IDs of the worker's slots that are held: by `jobs`' live attempts on members that have not ended, and by the worker's
// orphans (an orphan that names no slot holds all of them).
std::set<std::string> HeldSlots(const WorkerRecord& worker, const std::vector<const JobRecord*>& jobs);

// True if new gangs may go there: ready, connected, neither cordoned nor draining.
bool TakesGangs(const WorkerRecord& worker);

// True if the worker sees the storage root; an empty ID compares by name, an empty name and ID by nothing.
bool SeesRoot(const WorkerRecord& worker, absl::string_view name, absl::string_view id);

}  // namespace p2::scheduler
