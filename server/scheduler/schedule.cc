#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/scheduler/decisions.h"
#include "server/scheduler/placement.h"
#include "server/scheduler/queue_order.h"

namespace p2::scheduler {
namespace {

// The workers that take gangs, as one pass sees them.
struct Offer {
  const WorkerRecord* worker = nullptr;
  FreeSlots free;
  std::string reserved_for;  // The job before in the queue that waits for devices here; empty: none.
};

std::vector<Offer> Offers(const Draft& draft) {
  std::vector<Offer> offers;
  for (const WorkerRecord* worker : draft.Workers()) {
    if (!TakesGangs(*worker)) continue;
    offers.push_back({worker, FreeSlotsOf(*worker, HeldSlots(*worker, draft.JobsOn(worker->id)))});
  }
  return offers;
}

// Slots of one kind that a gang of the job could ever use on these workers, busy ones included.
int SlotsThatExist(const JobRecord& job, const std::vector<const Offer*>& offers) {
  std::map<std::string, int> by_kind;
  for (const Offer* offer : offers) {
    for (const SlotRecord& slot : offer->worker->slots) {
      if (Suits(job, *offer->worker, slot)) ++by_kind[slot.kind];
    }
  }
  int most = 0;
  for (const auto& [kind, count] : by_kind) most = std::max(most, count);
  return most;
}

// What of the free slots suits the job.
FreeSlots SuitingOf(const JobRecord& job, const WorkerRecord& worker, const FreeSlots& free) {
  FreeSlots suiting{free.worker, {}};
  for (const SlotRecord& slot : worker.slots) {
    const auto of_kind = free.by_kind.find(slot.kind);
    if (of_kind == free.by_kind.end() || !Suits(job, worker, slot)) continue;
    if (std::count(of_kind->second.begin(), of_kind->second.end(), slot.id) > 0)
      suiting.by_kind[slot.kind].push_back(slot.id);
  }
  return suiting;
}

int FreeOf(const JobRecord& job, const std::vector<const Offer*>& offers) {
  int free = 0;
  for (const Offer* offer : offers) {
    for (const auto& [kind, slots] : SuitingOf(job, *offer->worker, offer->free).by_kind)
      free += static_cast<int>(slots.size());
  }
  return free;
}

std::string Devices(const JobNeeds& needs) {
  return absl::StrCat(needs.devices, needs.kind.empty() ? "" : " ", needs.kind,
                      needs.devices == 1 ? " device" : " devices");
}

// Workers that are known but take no gangs, for people.
std::string Unavailable(const Draft& draft) {
  std::vector<std::string> names;
  for (const WorkerRecord* worker : draft.Workers()) {
    if (TakesGangs(*worker)) continue;
    names.push_back(absl::StrCat(worker->id, worker->draining                       ? " (draining)"
                                             : worker->cordoned                     ? " (cordoned)"
                                             : worker->state == WorkerState::kReady ? " (not connected)"
                                                                                    : " (silent)"));
  }
  return names.empty() ? "" : absl::StrCat("; not available: ", absl::StrJoin(names, ", "));
}

std::string RootsOf(const JobRecord& job) {
  const JobNeeds& needs = job.needs;
  std::vector<absl::string_view> names = {needs.checkpoint_root};
  const auto add = [&names](absl::string_view name) {
    if (!name.empty() && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  add(needs.dataset_root);
  if (job.ReadsSource()) add(needs.source.root);
  return absl::StrCat(names.size() == 1 ? "root " : "roots ", absl::StrJoin(names, " and "));
}

// ` (NVIDIA H100, p2 0.1.0: training.bitwise is required)`.
std::string NumericsOf(const JobRecord& job) {
  if (!job.needs.bitwise || job.numerics_version.empty()) return "";
  return absl::StrCat(" (", job.numerics_device, job.numerics_device.empty() ? "" : ", ", "p2 ", job.numerics_version,
                      ": training.bitwise is required)");
}

void SetReason(Draft& draft, const JobRecord& job, StatusReason reason, std::string message) {
  if (job.reason == reason && job.message == message) return;
  JobRecord& touched = draft.TouchJob(job.id);
  touched.reason = reason;
  touched.message = std::move(message);
}

std::optional<std::vector<RankPlacement>> PlaceOn(const JobRecord& job, const std::vector<const Offer*>& offers) {
  std::vector<FreeSlots> free;
  for (const Offer* offer : offers) free.push_back(SuitingOf(job, *offer->worker, offer->free));
  return Place(job.needs.devices, job.needs.kind, free);
}

void Take(std::vector<Offer>& offers, const std::vector<RankPlacement>& ranks) {
  for (const RankPlacement& rank : ranks) {
    for (Offer& offer : offers) {
      if (offer.worker->id != rank.worker) continue;
      for (auto& [kind, slots] : offer.free.by_kind) std::erase(slots, rank.slot);
    }
  }
}

// Starts the job or says why not. A job that waits for devices that exist reserves the workers it could run on, so that
// nothing behind it in the queue can keep it waiting for ever.
void Consider(Draft& draft, const JobRecord& job, std::vector<Offer>& offers) {
  const JobNeeds& needs = job.needs;
  if (job.ready_mono > draft.now().mono) return;  // Keeps the reason and message of its failure.
  if (draft.base().disk_full()) return SetReason(draft, job, StatusReason::kDiskFull, draft.base().disk_message());

  std::vector<const Offer*> all, seeing, usable;
  std::string ahead;
  for (const Offer& offer : offers) {
    all.push_back(&offer);
    if (!SeesRoots(*offer.worker, job)) continue;
    seeing.push_back(&offer);
    if (offer.reserved_for.empty()) {
      usable.push_back(&offer);
    } else {
      ahead = offer.reserved_for;
    }
  }
  if (const int exist = SlotsThatExist(job, all); exist < needs.devices) {
    return SetReason(draft, job, StatusReason::kNotEnoughDevices,
                     absl::StrCat("needs ", Devices(needs), NumericsOf(job), "; all ready workers together have ",
                                  exist, Unavailable(draft)));
  }
  if (const int exist = SlotsThatExist(job, seeing); exist < needs.devices) {
    return SetReason(
        draft, job, StatusReason::kRootNotVisible,
        absl::StrCat("needs ", Devices(needs), " on workers that see ", RootsOf(job), "; ",
                     seeing.empty() ? "no ready worker does" : absl::StrCat("those have ", exist), Unavailable(draft)));
  }
  if (auto ranks = PlaceOn(job, usable); ranks.has_value()) {
    Take(offers, *ranks);
    return StartAttempt(draft, job.id, std::move(*ranks));
  }
  SetReason(draft, job, StatusReason::kWaitingForDevices,
            absl::StrCat("needs ", Devices(needs), "; ", FreeOf(job, seeing), " of ", SlotsThatExist(job, seeing),
                         " are free", ahead.empty() ? "" : absl::StrCat(", and job ", ahead, " is before it")));
  for (Offer& offer : offers) {
    if (offer.reserved_for.empty() && SeesRoots(*offer.worker, job)) offer.reserved_for = job.id;
  }
}

}  // namespace

void SchedulingPass(Draft& draft) {
  const std::vector<const JobRecord*> queue = QueueOrder(draft.LiveJobs());
  if (queue.empty()) return;
  std::vector<Offer> offers = Offers(draft);
  std::vector<std::string> ids;
  for (const JobRecord* job : queue) ids.push_back(job->id);
  for (const std::string& id : ids) Consider(draft, *draft.Job(id), offers);
}

bool FitsElsewhere(const Draft& draft, const JobRecord& job) {
  std::vector<FreeSlots> free;
  for (const WorkerRecord* worker : draft.Workers()) {
    if (!TakesGangs(*worker) || !SeesRoots(*worker, job)) continue;
    std::vector<const JobRecord*> others = draft.JobsOn(worker->id);
    std::erase_if(others, [&](const JobRecord* other) { return other->id == job.id; });
    free.push_back(SuitingOf(job, *worker, FreeSlotsOf(*worker, HeldSlots(*worker, others))));
  }
  return Place(job.needs.devices, job.needs.kind, free).has_value();
}

}  // namespace p2::scheduler
