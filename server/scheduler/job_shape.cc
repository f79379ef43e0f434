#include "server/scheduler/job_shape.h"

#include <algorithm>

namespace p2::scheduler {
namespace {

// An empty ID compares by name, an empty name and ID by nothing.
bool Sees(const std::vector<RootRef>& roots, const RootRef& wanted) {
  if (wanted.first.empty() && wanted.second.empty()) return true;
  return std::any_of(roots.begin(), roots.end(), [&](const RootRef& root) {
    return wanted.second.empty() ? root.first == wanted.first : root.second == wanted.second;
  });
}

void SortUnique(std::vector<RootRef>& roots) {
  std::sort(roots.begin(), roots.end());
  roots.erase(std::unique(roots.begin(), roots.end()), roots.end());
}

}  // namespace

JobShape ShapeOf(const JobRecord& job) {
  const JobNeeds& needs = *job.needs;
  JobShape shape;
  shape.devices = needs.devices;
  shape.least_devices = needs.least_devices();
  shape.kind = needs.kind;
  shape.device_memory_min = needs.device_memory_min;
  shape.preemptible = needs.preemptible;
  shape.queue = job.details->queue;
  shape.selector = needs.selector;
  shape.roots = {{needs.dataset_root, needs.dataset_root_id}, {needs.checkpoint_root, needs.checkpoint_root_id}};
  if (job.ReadsSource()) shape.roots.emplace_back(needs.source.root, needs.source.root_id);
  SortUnique(shape.roots);
  if (needs.bitwise) {
    shape.numerics_device = job.numerics_device;
    shape.numerics_version = job.numerics_version;
  }
  return shape;
}

SlotTraits TraitsOf(const WorkerRecord& worker, const SlotRecord& slot) {
  SlotTraits traits;
  traits.kind = slot.kind;
  traits.device_name = slot.device_name;
  traits.version = worker.version;
  traits.memory_bytes = slot.memory_bytes;
  for (const RootRecord& root : worker.roots) traits.roots.emplace_back(root.name, root.id);
  SortUnique(traits.roots);
  traits.labels = worker.labels;
  return traits;
}

bool Selects(const std::map<std::string, std::string>& selector, const std::map<std::string, std::string>& labels) {
  return std::all_of(selector.begin(), selector.end(), [&](const auto& wanted) {
    const auto label = labels.find(wanted.first);
    return label != labels.end() && label->second == wanted.second;
  });
}

bool SuitsButForRoots(const JobShape& shape, const std::map<std::string, std::string>& queue_selector,
                      const SlotTraits& traits) {
  if (!shape.kind.empty() && shape.kind != traits.kind) return false;
  if (traits.memory_bytes < shape.device_memory_min) return false;
  if (!shape.numerics_version.empty() &&
      (shape.numerics_version != traits.version || shape.numerics_device != traits.device_name)) {
    return false;
  }
  return Selects(shape.selector, traits.labels) && Selects(queue_selector, traits.labels);
}

bool Suits(const JobShape& shape, const std::map<std::string, std::string>& queue_selector, const SlotTraits& traits) {
  return SuitsButForRoots(shape, queue_selector, traits) &&
         std::all_of(shape.roots.begin(), shape.roots.end(),
                     [&](const RootRef& root) { return Sees(traits.roots, root); });
}

}  // namespace p2::scheduler
