// What a job could have, and when: the arithmetic behind a scheduling pass and behind `why`.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/scheduler/draft.h"
#include "server/scheduler/ending.h"
#include "server/scheduler/slot_index.h"

namespace p2::scheduler {

// Classes of slots for one shape of job.
struct Suitable {
  std::shared_ptr<const ShapeClasses> of;  // Never null.
  // Slots of one kind that exist there, busy ones included; and those there would be if all workers saw its roots.
  int exist = 0, exist_but_for_roots = 0;

  const std::vector<SlotIndex::ClassId>& classes() const { return of->classes; }
};
Suitable SuitableFor(const ClusterState& state, const JobShape& shape);
// The two halves of it: what changes with classes and queues only, and the numbers of now.
std::shared_ptr<const ShapeClasses> ClassesFor(const ClusterState& state, const JobShape& shape);
Suitable Count(const ClusterState& state, std::shared_ptr<const ShapeClasses> classes);

// Ranks of the job's live attempt whose slots are held.
std::vector<RankPlacement> HeldRanks(const JobRecord& job);

// When the job's live attempt gives its devices back (ending.h); InfiniteFuture if nothing tells.
absl::Time PredictedEnd(const JobRecord& job, absl::Time now_mono);

// Jobs that hold slots of these classes.
std::vector<const JobRecord*> HoldersOf(const Draft& draft, const std::vector<SlotIndex::ClassId>& classes);

// The earliest that the job can start if what runs ends as predicted, and where. Empty if it never fits. With unknown
// ends, those that began first are taken to end first.
std::optional<Reservation> Forecast(const Draft& draft, const JobRecord& job, const Suitable& suitable,
                                    const FreeSlots& free);

// Attempts to stop so that the job can start, those that lose the least first; their slots and where the job goes then.
// Only attempts of lower priority, or of those who hold more than their quota if this job is within its own; only such
// as save a checkpoint; none that was preempted too often of late.
struct Preemption {
  std::vector<std::string> victims;
  Reservation reservation;
};
std::optional<Preemption> FindVictims(const Draft& draft, const JobRecord& job, const Suitable& suitable,
                                      const FreeSlots& free);

// The accounts that a job counts for: `projects/{project}` and `users/{owner}`.
std::array<std::string, 2> AccountsOf(const JobRecord& job);

// What quotas leave to the job's owner and project together, beyond what they hold; nullopt: no limit.
struct Allowance {
  std::optional<int> within;    // Within quota.
  std::optional<int> borrowed;  // Borrowing as well. >= within.
  std::string limit;            // `users/ann`: whose quota it is.
};
Allowance AllowanceOf(const ClusterState& state, const JobRecord& job, const std::map<std::string, int>& more_held);

}  // namespace p2::scheduler
