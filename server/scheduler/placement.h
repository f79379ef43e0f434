// Where a gang goes: pure arithmetic over free slots.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/scheduler/types.h"

namespace p2::scheduler {

// Slot ID -> job of what is held on a worker: the slots of `jobs`' live attempts on members that have not ended, and
// those of the worker's orphans (an orphan that names no slot holds all of them).
std::map<std::string, std::string> HeldSlots(const WorkerRecord& worker, const std::vector<const JobRecord*>& jobs);

// True if new gangs may go there: ready, connected, neither cordoned nor draining.
bool TakesGangs(const WorkerRecord& worker);

// True if the worker sees the storage root; an empty ID compares by name, an empty name and ID by nothing.
bool SeesRoot(const WorkerRecord& worker, absl::string_view name, absl::string_view id);
bool SeesRoots(const WorkerRecord& worker, const JobRecord& job);
// Whether a rank of the job may run on the slot: its kind, and for a job that needs its bits and ran before, the same
// device and version.
bool Suits(const JobRecord& job, const WorkerRecord& worker, const SlotRecord& slot);

// Free slots of one worker by kind, in the worker's own order.
struct FreeSlots {
  std::string worker;
  std::map<std::string, std::vector<std::string>> by_kind;
};
FreeSlots FreeSlotsOf(const WorkerRecord& worker, const std::map<std::string, std::string>& held);

// Places `devices` ranks on slots of one kind (`kind`, or if empty the kind that needs the fewest workers, `cuda`
// before others), on as few workers as possible: the one whose free slots fit most tightly, else the fullest ones first
// and the rest where it fits most tightly. Ties go to the lower worker ID. Ranks stand in the order of worker IDs, then
// of slots. Empty if they do not fit.
std::optional<std::vector<RankPlacement>> Place(int devices, absl::string_view kind,
                                                const std::vector<FreeSlots>& free);

}  // namespace p2::scheduler
