#include "server/scheduler/placement.h"

#include <algorithm>
#include <set>
#include <utility>

namespace p2::scheduler {
namespace {

constexpr absl::string_view kPreferredKind = "cuda";

// Workers by how many slots of one kind they have free: a decision looks at buckets, not at every worker.
using Buckets = std::map<int, std::set<std::string>>;

void TakeFrom(Buckets& buckets, Buckets::iterator bucket, const std::string& worker) {
  bucket->second.erase(worker);
  if (bucket->second.empty()) buckets.erase(bucket);
}

// Worker -> slots taken there. Empty if there are not enough.
std::map<std::string, int> FewestWorkers(int devices, Buckets buckets) {
  std::map<std::string, int> taken;
  while (devices > 0) {
    if (buckets.empty()) return {};
    auto bucket = buckets.lower_bound(devices);               // The tightest fit for all that is left,
    if (bucket == buckets.end()) bucket = std::prev(bucket);  // else the most that one worker gives.
    const std::string worker = *bucket->second.begin();
    const int count = std::min(devices, bucket->first);
    taken[worker] = count;
    devices -= count;
    TakeFrom(buckets, bucket, worker);
  }
  return taken;
}

std::vector<RankPlacement> Assign(const std::map<std::string, int>& taken, const std::string& kind,
                                  const std::vector<FreeSlots>& free) {
  std::vector<RankPlacement> ranks;
  for (const auto& [worker, count] : taken) {
    const auto slots =
        std::find_if(free.begin(), free.end(), [&](const FreeSlots& candidate) { return candidate.worker == worker; });
    for (int i = 0; i < count; ++i) {
      ranks.push_back({static_cast<int>(ranks.size()), worker, slots->by_kind.at(kind)[i]});
    }
  }
  return ranks;
}

}  // namespace

std::map<std::string, std::string> HeldSlots(const WorkerRecord& worker, const std::vector<const JobRecord*>& jobs) {
  std::map<std::string, std::string> held;
  for (const JobRecord* job : jobs) {
    const Attempt* attempt = job->live_attempt();
    const Member* member = attempt == nullptr ? nullptr : attempt->FindMember(worker.id);
    if (member == nullptr || member->state == MemberState::kEnded) continue;
    for (const RankPlacement& rank : attempt->ranks) {
      if (rank.worker == worker.id) held[rank.slot] = job->id;
    }
  }
  for (const Orphan& orphan : worker.orphans) {
    for (const std::string& slot : orphan.slots) held[slot] = orphan.job;
    if (!orphan.slots.empty()) continue;
    for (const SlotRecord& slot : worker.slots) held[slot.id] = orphan.job;
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

bool SeesRoots(const WorkerRecord& worker, const JobRecord& job) {
  const JobNeeds& needs = job.needs;
  return SeesRoot(worker, needs.dataset_root, needs.dataset_root_id) &&
         SeesRoot(worker, needs.checkpoint_root, needs.checkpoint_root_id) &&
         (!job.ReadsSource() || SeesRoot(worker, needs.source.root, needs.source.root_id));
}

bool Suits(const JobRecord& job, const WorkerRecord& worker, const SlotRecord& slot) {
  if (!job.needs.kind.empty() && slot.kind != job.needs.kind) return false;
  if (!job.needs.bitwise || job.numerics_version.empty()) return true;
  return worker.version == job.numerics_version && slot.device_name == job.numerics_device;
}

FreeSlots FreeSlotsOf(const WorkerRecord& worker, const std::map<std::string, std::string>& held) {
  FreeSlots free{worker.id, {}};
  for (const SlotRecord& slot : worker.slots) {
    if (held.count(slot.id) == 0) free.by_kind[slot.kind].push_back(slot.id);
  }
  return free;
}

std::optional<std::vector<RankPlacement>> Place(int devices, absl::string_view kind,
                                                const std::vector<FreeSlots>& free) {
  std::map<std::string, Buckets> buckets_by_kind;
  for (const FreeSlots& candidate : free) {
    for (const auto& [slot_kind, slots] : candidate.by_kind) {
      if (!slots.empty() && (kind.empty() || slot_kind == kind)) {
        buckets_by_kind[slot_kind][static_cast<int>(slots.size())].insert(candidate.worker);
      }
    }
  }
  std::string best_kind;
  std::map<std::string, int> best;
  for (const auto& [slot_kind, buckets] : buckets_by_kind) {
    std::map<std::string, int> taken = FewestWorkers(devices, buckets);
    if (taken.empty()) continue;
    if (best.empty() || taken.size() < best.size() || (taken.size() == best.size() && slot_kind == kPreferredKind)) {
      best = std::move(taken);
      best_kind = slot_kind;
    }
  }
  if (best.empty()) return std::nullopt;
  return Assign(best, best_kind, free);
}

}  // namespace p2::scheduler
