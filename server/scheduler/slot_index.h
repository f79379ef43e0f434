// Which slots are free, by what tells them apart and by how many their worker has: a placement looks at buckets, not at
// every worker.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/scheduler/job_shape.h"
#include "server/scheduler/types.h"

namespace p2::scheduler {

inline constexpr absl::string_view kPreferredKind = "cuda";

// Slots of equal traits, on workers that take gangs.
struct SlotClass {
  using Node = uint32_t;  // Of SlotIndex::NodeName.

  SlotTraits traits;
  // IDs of a worker's slots that are free, and of all, in the worker's own order.
  struct Pool {
    std::vector<std::string> free, all;
    bool operator==(const Pool&) const = default;
  };
  std::map<Node, Pool> pools;  // Of workers that have some.
  // Number of free slots -> its workers, by name.
  std::map<int, std::vector<Node>> buckets;
  int total = 0, free = 0;
};

// Thread-compatible; a value.
class SlotIndex {
 public:
  using ClassId = int;
  using Classes = std::map<ClassId, SlotClass>;

  // Enters, or enters anew, what the worker offers. `held`: IDs of its slots that are not free.
  void Update(const WorkerRecord& worker, const std::set<std::string>& held);

  // The same while the worker offers what it did: only what is held has changed.
  void UpdateHeld(const WorkerRecord& worker, const std::set<std::string>& held);

  const Classes& classes() const { return classes_; }
  const std::string& NodeName(SlotClass::Node node) const { return names_[node]; }
  std::optional<SlotClass::Node> FindNode(absl::string_view worker) const;
  // Free slots of the kind of which these classes have the most, and all such slots.
  int MostFree(const std::vector<ClassId>& classes) const;
  int MostOfAll(const std::vector<ClassId>& classes) const;
  // The class of a worker's slot; nullopt if no gang may have it.
  std::optional<std::pair<ClassId, SlotClass::Node>> ClassWith(SlotClass::Node node, absl::string_view slot) const;
  // Changes whenever a class appears or goes: what was found out about classes is void then.
  int64_t generation() const { return generation_; }

 private:
  SlotClass::Node Intern(const std::string& worker);
  ClassId ClassOf(const SlotTraits& traits);
  void Enter(ClassId id, SlotClass::Node node, SlotClass::Pool pool);
  void Leave(ClassId id, SlotClass::Node node);

  Classes classes_;
  std::map<SlotTraits, ClassId> by_traits_;
  std::vector<std::string> names_;
  std::map<std::string, SlotClass::Node, std::less<>> nodes_;
  std::map<SlotClass::Node, std::vector<ClassId>> classes_of_;  // Sorted.
  ClassId last_class_ = 0;
  int64_t generation_ = 0;
};

// The index as one scheduling pass sees it, while it takes slots. Copies only what it changes.
class FreeSlots {
 public:
  using ClassId = SlotIndex::ClassId;

  explicit FreeSlots(const SlotIndex& index) : index_(index) {}

  // Places at most `most`, at least `least` ranks on slots of these classes that are of one kind: as many as there are,
  // then on as few workers as possible (the one whose free slots fit most tightly, else the fullest ones first and the
  // rest where it fits most tightly), then `cuda` before others. Ties go to the lower worker ID. Ranks stand in the
  // order of worker IDs, then of slots. Empty if they do not fit.
  std::optional<std::vector<RankPlacement>> Place(int most, int least, const std::vector<ClassId>& classes) const;

  // Takes slots away, or gives some back that are to come first. Slots that no class has are passed over.
  void Take(const std::vector<RankPlacement>& ranks);
  void Give(const std::vector<RankPlacement>& ranks);

  bool IsFree(const RankPlacement& rank) const;
  int Free(ClassId id) const;
  const SlotIndex& index() const { return index_; }

 private:
  using Node = SlotClass::Node;
  struct Changed {
    std::map<Node, std::vector<std::string>> free;  // Of workers that differ from the index.
    std::map<int, std::vector<Node>> buckets;
    int total_free = 0;
  };

  const std::map<int, std::vector<Node>>& Buckets(ClassId id) const;
  const std::vector<std::string>& FreeOf(ClassId id, Node node) const;
  Changed& Change(ClassId id);
  void SetFree(ClassId id, Node node, std::vector<std::string> free);
  // Slots of `ranks` by class and node, in their order.
  std::map<std::pair<ClassId, Node>, std::vector<std::string>> Grouped(const std::vector<RankPlacement>& ranks) const;
  // Worker and class -> how many slots to take there; empty if `devices` are not there.
  using Picks = std::map<std::pair<std::string, ClassId>, std::pair<Node, int>>;
  Picks FewestWorkers(int devices, const std::vector<ClassId>& classes) const;
  // The class in which the worker has the slot.
  std::optional<std::pair<ClassId, Node>> Find(const RankPlacement& rank) const;

  const SlotIndex& index_;
  std::map<ClassId, Changed> changed_;
};

}  // namespace p2::scheduler
