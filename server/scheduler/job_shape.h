// What placement needs to know of a job. Jobs of one shape are the same to it: where one does not fit, none does.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/scheduler/types.h"

namespace p2::scheduler {

// A storage root by name and UUID; see SeesRoot.
using RootRef = std::pair<std::string, std::string>;

struct JobShape {
  int devices = 1, least_devices = 1;
  std::string kind;
  int64_t device_memory_min = 0;
  bool preemptible = true;
  std::string queue;
  std::map<std::string, std::string> selector;
  std::vector<RootRef> roots;  // Sorted, without doubles.
  // Empty unless it ran before and must get the same bits.
  std::string numerics_device, numerics_version;
  auto operator<=>(const JobShape&) const = default;
};

JobShape ShapeOf(const JobRecord& job);

// What tells the slots of one worker from those of another. Slots of equal traits are the same to placement.
struct SlotTraits {
  std::string kind, device_name, version;
  int64_t memory_bytes = 0;
  std::vector<RootRef> roots;  // Sorted.
  std::map<std::string, std::string> labels;
  auto operator<=>(const SlotTraits&) const = default;
};

SlotTraits TraitsOf(const WorkerRecord& worker, const SlotRecord& slot);

// True if all of `selector` stands among the labels.
bool Selects(const std::map<std::string, std::string>& selector, const std::map<std::string, std::string>& labels);

// Whether a rank of such a job may run on such a slot. `queue_selector`: of the job's queue. SuitsButForRoots: were its
// storage roots there.
bool Suits(const JobShape& shape, const std::map<std::string, std::string>& queue_selector, const SlotTraits& traits);
bool SuitsButForRoots(const JobShape& shape, const std::map<std::string, std::string>& queue_selector,
                      const SlotTraits& traits);

}  // namespace p2::scheduler
