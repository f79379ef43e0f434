#include "server/scheduler/slot_index.h"

#include <algorithm>

#include "server/scheduler/placement.h"

namespace p2::scheduler {
namespace {

using Buckets = std::map<int, std::vector<SlotClass::Node>>;

void Insert(const SlotIndex& index, Buckets& buckets, int free, SlotClass::Node node) {
  std::vector<SlotClass::Node>& nodes = buckets[free];
  const auto by_name = [&](SlotClass::Node a, SlotClass::Node b) { return index.NodeName(a) < index.NodeName(b); };
  nodes.insert(std::lower_bound(nodes.begin(), nodes.end(), node, by_name), node);
}

void Erase(const SlotIndex& index, Buckets& buckets, int free, SlotClass::Node node) {
  const auto bucket = buckets.find(free);
  if (bucket == buckets.end()) return;
  std::vector<SlotClass::Node>& nodes = bucket->second;
  const auto by_name = [&](SlotClass::Node a, SlotClass::Node b) { return index.NodeName(a) < index.NodeName(b); };
  const auto it = std::lower_bound(nodes.begin(), nodes.end(), node, by_name);
  if (it != nodes.end() && *it == node) nodes.erase(it);
  if (nodes.empty()) buckets.erase(bucket);
}

}  // namespace

SlotClass::Node SlotIndex::Intern(const std::string& worker) {
  const auto [it, added] = nodes_.emplace(worker, static_cast<SlotClass::Node>(names_.size()));
  if (added) names_.push_back(worker);
  return it->second;
}

std::optional<SlotClass::Node> SlotIndex::FindNode(absl::string_view worker) const {
  const auto it = nodes_.find(worker);
  if (it == nodes_.end()) return std::nullopt;
  return it->second;
}

std::optional<std::pair<SlotIndex::ClassId, SlotClass::Node>> SlotIndex::ClassWith(SlotClass::Node node,
                                                                                   absl::string_view slot) const {
  const auto of = classes_of_.find(node);
  if (of == classes_of_.end()) return std::nullopt;
  for (const ClassId id : of->second) {
    const std::vector<std::string>& all = classes_.at(id).pools.at(node).all;
    if (std::find(all.begin(), all.end(), slot) != all.end()) return std::make_pair(id, node);
  }
  return std::nullopt;
}

SlotIndex::ClassId SlotIndex::ClassOf(const SlotTraits& traits) {
  const auto [it, added] = by_traits_.emplace(traits, last_class_ + 1);
  if (added) {
    classes_[++last_class_].traits = traits;
    ++generation_;
  }
  return it->second;
}

void SlotIndex::Enter(ClassId id, SlotClass::Node node, SlotClass::Pool pool) {
  SlotClass& in = classes_.at(id);
  const int free = static_cast<int>(pool.free.size());
  if (free > 0) Insert(*this, in.buckets, free, node);
  in.total += static_cast<int>(pool.all.size());
  in.free += free;
  in.pools[node] = std::move(pool);
}

void SlotIndex::Leave(ClassId id, SlotClass::Node node) {
  SlotClass& in = classes_.at(id);
  const SlotClass::Pool& pool = in.pools.at(node);
  const int free = static_cast<int>(pool.free.size());
  Erase(*this, in.buckets, free, node);
  in.total -= static_cast<int>(pool.all.size());
  in.free -= free;
  in.pools.erase(node);
}

void SlotIndex::Update(const WorkerRecord& worker, const std::set<std::string>& held) {
  const SlotClass::Node node = Intern(worker.id);
  std::map<ClassId, SlotClass::Pool> pools;
  if (TakesGangs(worker)) {
    for (const SlotRecord& slot : worker.slots) {
      SlotClass::Pool& pool = pools[ClassOf(TraitsOf(worker, slot))];
      pool.all.push_back(slot.id);
      if (held.count(slot.id) == 0) pool.free.push_back(slot.id);
    }
  }
  const std::vector<ClassId> before = std::exchange(classes_of_[node], {});
  for (const ClassId id : before) Leave(id, node);
  for (auto& [id, pool] : pools) {
    Enter(id, node, std::move(pool));
    classes_of_[node].push_back(id);
  }
  for (const ClassId id : before) {  // Not earlier: most workers come back to the class that they left.
    if (!classes_.at(id).pools.empty()) continue;
    by_traits_.erase(classes_.at(id).traits);
    classes_.erase(id);
    ++generation_;
  }
}

void SlotIndex::UpdateHeld(const WorkerRecord& worker, const std::set<std::string>& held) {
  const auto node = FindNode(worker.id);
  if (!node.has_value()) return Update(worker, held);
  for (const ClassId id : classes_of_[*node]) {
    SlotClass::Pool pool;
    pool.all = classes_.at(id).pools.at(*node).all;
    for (const std::string& slot : pool.all) {
      if (held.count(slot) == 0) pool.free.push_back(slot);
    }
    Leave(id, *node);
    Enter(id, *node, std::move(pool));
  }
}

namespace {

// The largest sum of count(class) over the classes of one kind.
template <typename CountOf>
int MostOfOneKind(const SlotIndex& index, const std::vector<SlotIndex::ClassId>& classes, const CountOf& count) {
  const auto kind_of = [&](size_t i) -> const std::string& { return index.classes().at(classes[i]).traits.kind; };
  int most = 0;
  for (size_t first = 0; first < classes.size(); ++first) {
    int sum = 0;
    for (size_t i = 0; i < classes.size(); ++i) {
      if (kind_of(i) != kind_of(first)) continue;
      if (i < first) break;  // Counted already.
      sum += count(classes[i]);
    }
    most = std::max(most, sum);
  }
  return most;
}

}  // namespace

int SlotIndex::MostFree(const std::vector<ClassId>& classes) const {
  return MostOfOneKind(*this, classes, [&](ClassId id) { return classes_.at(id).free; });
}

int SlotIndex::MostOfAll(const std::vector<ClassId>& classes) const {
  return MostOfOneKind(*this, classes, [&](ClassId id) { return classes_.at(id).total; });
}

const Buckets& FreeSlots::Buckets(ClassId id) const {
  const auto changed = changed_.find(id);
  return changed != changed_.end() ? changed->second.buckets : index_.classes().at(id).buckets;
}

const std::vector<std::string>& FreeSlots::FreeOf(ClassId id, Node node) const {
  if (const auto changed = changed_.find(id); changed != changed_.end()) {
    const auto free = changed->second.free.find(node);
    if (free != changed->second.free.end()) return free->second;
  }
  return index_.classes().at(id).pools.at(node).free;
}

int FreeSlots::Free(ClassId id) const {
  const auto changed = changed_.find(id);
  return changed != changed_.end() ? changed->second.total_free : index_.classes().at(id).free;
}

FreeSlots::Changed& FreeSlots::Change(ClassId id) {
  const auto [it, added] = changed_.try_emplace(id);
  if (added) {
    it->second.buckets = index_.classes().at(id).buckets;
    it->second.total_free = index_.classes().at(id).free;
  }
  return it->second;
}

void FreeSlots::SetFree(ClassId id, Node node, std::vector<std::string> free) {
  Changed& changed = Change(id);
  const int before = static_cast<int>(FreeOf(id, node).size()), after = static_cast<int>(free.size());
  Erase(index_, changed.buckets, before, node);
  if (after > 0) Insert(index_, changed.buckets, after, node);
  changed.total_free += after - before;
  changed.free[node] = std::move(free);
}

std::optional<std::pair<FreeSlots::ClassId, FreeSlots::Node>> FreeSlots::Find(const RankPlacement& rank) const {
  const std::optional<Node> node = index_.FindNode(rank.worker);
  if (!node.has_value()) return std::nullopt;
  return index_.ClassWith(*node, rank.slot);
}

bool FreeSlots::IsFree(const RankPlacement& rank) const {
  const auto at = Find(rank);
  if (!at.has_value()) return false;
  const std::vector<std::string>& free = FreeOf(at->first, at->second);
  return std::find(free.begin(), free.end(), rank.slot) != free.end();
}

std::map<std::pair<FreeSlots::ClassId, FreeSlots::Node>, std::vector<std::string>> FreeSlots::Grouped(
    const std::vector<RankPlacement>& ranks) const {
  std::map<std::pair<ClassId, Node>, std::vector<std::string>> grouped;
  for (const RankPlacement& rank : ranks) {
    if (const auto at = Find(rank); at.has_value()) grouped[*at].push_back(rank.slot);
  }
  return grouped;
}

void FreeSlots::Take(const std::vector<RankPlacement>& ranks) {
  for (const auto& [at, slots] : Grouped(ranks)) {
    std::vector<std::string> free = FreeOf(at.first, at.second);
    const size_t before = free.size();
    std::erase_if(free, [&](const std::string& slot) { return std::count(slots.begin(), slots.end(), slot) > 0; });
    if (free.size() != before) SetFree(at.first, at.second, std::move(free));
  }
}

void FreeSlots::Give(const std::vector<RankPlacement>& ranks) {
  for (auto& [at, slots] : Grouped(ranks)) {
    const std::vector<std::string>& there = FreeOf(at.first, at.second);
    std::vector<std::string> free = slots;
    std::erase_if(free, [&](const std::string& slot) { return std::count(there.begin(), there.end(), slot) > 0; });
    if (free.empty()) continue;
    free.insert(free.end(), there.begin(), there.end());
    SetFree(at.first, at.second, std::move(free));
  }
}

FreeSlots::Picks FreeSlots::FewestWorkers(int devices, const std::vector<ClassId>& classes) const {
  Picks picks;
  const auto picked = [&](ClassId id, Node node) { return picks.count({index_.NodeName(node), id}) > 0; };
  while (devices > 0) {
    // The tightest fit for all that is left, else the most that one worker gives.
    std::optional<std::pair<ClassId, Node>> best;
    int best_free = 0;
    for (const ClassId id : classes) {
      const auto& buckets = Buckets(id);
      const auto offer = [&](int free, const std::vector<Node>& nodes) {
        const auto node = std::find_if(nodes.begin(), nodes.end(), [&](Node node) { return !picked(id, node); });
        if (node == nodes.end()) return false;
        const bool fits = free >= devices, best_fits = best_free >= devices;
        const bool better = !best.has_value() || (fits && (!best_fits || free < best_free)) ||
                            (!fits && !best_fits && free > best_free) ||
                            (free == best_free && index_.NodeName(*node) < index_.NodeName(best->second));
        if (better) {
          best = {id, *node};
          best_free = free;
        }
        return true;
      };
      bool found = false;
      for (auto bucket = buckets.lower_bound(devices); !found && bucket != buckets.end(); ++bucket)
        found = offer(bucket->first, bucket->second);
      for (auto bucket = buckets.lower_bound(devices); !found && bucket != buckets.begin();) {
        --bucket;
        found = offer(bucket->first, bucket->second);
      }
    }
    if (!best.has_value()) return {};
    const int count = std::min(devices, best_free);
    picks[{index_.NodeName(best->second), best->first}] = {best->second, count};
    devices -= count;
  }
  return picks;
}

std::optional<std::vector<RankPlacement>> FreeSlots::Place(int most, int least,
                                                           const std::vector<ClassId>& classes) const {
  if (MostOfOneKind(index_, classes, [&](ClassId id) { return Free(id); }) < std::max(least, 1)) return std::nullopt;
  std::map<std::string, std::vector<ClassId>> by_kind;
  for (const ClassId id : classes) by_kind[index_.classes().at(id).traits.kind].push_back(id);
  Picks best;
  std::tuple<int, size_t, bool> best_rank;  // Fewer devices, more workers, not the preferred kind: the lower is better.
  for (const auto& [kind, of_kind] : by_kind) {
    int free = 0;
    for (const ClassId id : of_kind) free += Free(id);
    const int devices = std::min(most, free);
    if (devices < least || devices <= 0) continue;
    Picks picks = FewestWorkers(devices, of_kind);
    const std::tuple<int, size_t, bool> rank = {-devices, picks.size(), kind != kPreferredKind};
    if (best.empty() || rank < best_rank) {
      best = std::move(picks);
      best_rank = rank;
    }
  }
  if (best.empty()) return std::nullopt;
  std::vector<RankPlacement> ranks;
  for (const auto& [at, pick] : best) {
    const std::vector<std::string>& free = FreeOf(at.second, pick.first);
    for (int i = 0; i < pick.second; ++i) ranks.push_back({static_cast<int>(ranks.size()), at.first, free[i]});
  }
  return ranks;
}

}  // namespace p2::scheduler
