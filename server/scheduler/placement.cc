#include "server/scheduler/placement.h"

#include <algorithm>

namespace p2::scheduler {

std::set<std::string> HeldSlots(const WorkerRecord& worker, const std::vector<const JobRecord*>& jobs) {
  std::set<std::string> held;
  for (const JobRecord* job : jobs) {
    const Attempt* attempt = job->live_attempt();
    const Member* member = attempt == nullptr ? nullptr : attempt->FindMember(worker.id);
    if (member == nullptr || member->state == MemberState::kEnded) continue;
    for (const RankPlacement& rank : attempt->ranks) {
      if (rank.worker == worker.id) held.insert(rank.slot);
    }
  }
  for (const Orphan& orphan : worker.orphans) {
    held.insert(orphan.slots.begin(), orphan.slots.end());
    if (!orphan.slots.empty()) continue;
    for (const SlotRecord& slot : worker.slots) held.insert(slot.id);
  }
  return held;
}

bool TakesGangs(const WorkerRecord& worker) {
  return worker.state == WorkerState::kReady && worker.session != 0 && !worker.cordoned && !worker.draining;
}

bool SeesRoot(const WorkerRecord& worker, absl::string_view name, absl::string_view id) {
  if (name.empty() && id.empty()) return true;
  return std::any_of(worker.roots.begin(), worker.roots.end(),
                     [&](const RootRecord& root) { return id.empty() ? root.name == name : root.id == id; });
}

}  // namespace p2::scheduler
