#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/scheduler/scheduling_pass.h"

namespace p2::scheduler {
namespace {

// A reservation is late after so long.
constexpr absl::Duration kGrace = absl::Seconds(5);

}  // namespace

bool SameSlot(const RankPlacement& a, const RankPlacement& b) { return a.slot == b.slot && a.worker == b.worker; }

void SchedulingPass::KeepReservations() {
  for (const auto& [id, reservation] : state_.reservations()) {
    const JobRecord* job = draft_.Job(id);
    const bool waits = job != nullptr && job->state == JobState::kQueued && job->ready_mono == absl::InfinitePast();
    const bool late = reservation.start_mono + kGrace < now();
    const bool there = std::all_of(reservation.ranks.begin(), reservation.ranks.end(), [&](const RankPlacement& rank) {
      const auto node = state_.slots().FindNode(rank.worker);
      if (!node.has_value() || !state_.slots().ClassWith(*node, rank.slot).has_value()) return false;
      if (free_.IsFree(rank)) return true;
      const JobRecord* holder = HolderOf(rank);
      return holder != nullptr &&
             (holder->live_attempt()->create_mono <= reservation.made_mono || holder->live_attempt()->backfill);
    });
    if (waits && !late && there) {
      kept_[id] = reservation;
    } else {
      draft_.Mutate(EraseReservation{id});
    }
  }
}

const JobRecord* SchedulingPass::HolderOf(const RankPlacement& rank) const {
  for (const std::string& id : state_.JobsOn(rank.worker)) {
    const JobRecord* job = draft_.Job(id);
    const Attempt* attempt = job->live_attempt();
    if (attempt == nullptr || attempt->FindMember(rank.worker)->state == MemberState::kEnded) continue;
    const bool holds = std::any_of(attempt->ranks.begin(), attempt->ranks.end(),
                                   [&](const RankPlacement& it) { return SameSlot(it, rank); });
    if (holds) return job;
  }
  return nullptr;
}

void SchedulingPass::HidePreempted(int priority) {
  for (const auto& [id, reservation] : kept_) {
    if (reservation.preempting && draft_.Job(id)->priority == priority) Hide(id);
  }
}

void SchedulingPass::Hide(const std::string& id) {
  std::vector<RankPlacement>& hidden = hidden_[id];
  hidden = kept_.at(id).ranks;
  std::erase_if(hidden, [&](const RankPlacement& rank) { return !free_.IsFree(rank); });
  free_.Take(hidden);
  KeepClasses(SuitableOf(state_.queue().ShapeIdOf(*state_.FindJob(id))));
}

// Those for whom there are too few devices, what is reserved included, need no turn: nothing is left to be found out of
// them, and in a long queue they are nearly all.
void SchedulingPass::KeepClasses(const Suitable& suitable) {
  const size_t before = reserved_classes_.size();
  AddReserved(suitable);
  if (reserved_classes_.size() == before || state_.disk_full()) return;
  for (ShapeId id = 0; id < static_cast<ShapeId>(shapes_.size()); ++id) {
    if (state_.queue().shapes()[id].ready == 0 || BlockedOf(id) != nullptr) continue;
    const JobShape& wants = state_.queue().Wants(id);
    const Suitable& other = SuitableOf(id);
    if (other.exist >= wants.least_devices && IsReserved(other) &&
        state_.slots().MostFree(other.classes()) < wants.least_devices) {
      BlockShape(id, WaitsForDevices(id));
    }
  }
}

void SchedulingPass::AddReserved(const Suitable& suitable) {
  for (const ClassId id : suitable.classes()) {
    const auto at = std::lower_bound(reserved_classes_.begin(), reserved_classes_.end(), id);
    if (at == reserved_classes_.end() || *at != id) reserved_classes_.insert(at, id);
  }
}

void SchedulingPass::Reopen() {
  const std::vector<ClassId> before = std::exchange(reserved_classes_, {});
  for (const ShapeId id : unplanned_) AddReserved(SuitableOf(id));
  for (const auto& [id, hidden] : hidden_) AddReserved(SuitableOf(state_.queue().ShapeIdOf(*state_.FindJob(id))));
  std::vector<ClassId> open;
  std::set_difference(before.begin(), before.end(), reserved_classes_.begin(), reserved_classes_.end(),
                      std::back_inserter(open));
  for (ShapeId id = 0; id < static_cast<ShapeId>(shapes_.size()); ++id) {
    if (BlockedOf(id) == nullptr || BlockedOf(id)->reason != StatusReason::kWaitingForDevices) continue;
    const std::vector<ClassId>& classes = SuitableOf(id).classes();
    const bool was_behind = std::any_of(open.begin(), open.end(), [&](ClassId it) {
      return std::find(classes.begin(), classes.end(), it) != classes.end();
    });
    if (!was_behind) continue;
    shapes_[id].blocked = nullptr;
    is_blocked_[id] = false;
    --blocked_count_;
    reopened_ = true;
  }
}

bool SchedulingPass::IsReserved(const Suitable& suitable) const {
  return std::any_of(suitable.classes().begin(), suitable.classes().end(), [&](ClassId id) {
    return std::binary_search(reserved_classes_.begin(), reserved_classes_.end(), id);
  });
}

void SchedulingPass::Drop(const std::string& id) {
  kept_.erase(id);
  hidden_.erase(id);
  draft_.Mutate(EraseReservation{id});
}

void SchedulingPass::StartPreemptors(int priority) {
  if (state_.disk_full()) return;
  std::vector<std::string> ready;
  for (const auto& [id, reservation] : kept_) {
    const bool free = std::all_of(reservation.ranks.begin(), reservation.ranks.end(),
                                  [&](const RankPlacement& rank) { return free_.IsFree(rank); });
    if (reservation.preempting && free && state_.FindJob(id)->priority == priority) ready.push_back(id);
  }
  for (const std::string& id : ready) {
    const JobRecord& job = *draft_.Job(id);
    const std::optional<int> allowed = AllowanceOf(state_, job, more_held_).borrowed;
    const std::vector<RankPlacement> ranks = kept_.at(id).ranks;
    if (allowed.has_value() && *allowed < static_cast<int>(ranks.size())) {
      Drop(id);  // Its quota was lowered, or others of its account started.
    } else {
      Start(job, ranks, false);
    }
  }
}

void SchedulingPass::DropOutrun() {
  std::vector<std::string> outrun;
  for (const auto& [id, reservation] : kept_) {
    if (!reservation.preempting && hidden_.count(id) == 0) outrun.push_back(id);
  }
  for (const std::string& id : outrun) Drop(id);
}

std::optional<std::vector<RankPlacement>> SchedulingPass::Backfill(const JobRecord& job, const Suitable& suitable,
                                                                   int most) {
  const int least = job.needs->least_devices();
  const absl::Duration run = PredictedRun(job, least);
  std::vector<const std::vector<RankPlacement>*> open;
  for (const auto& [id, hidden] : hidden_) {
    const Reservation& reservation = kept_.at(id);
    if (reservation.preempting || !WaitsForOthers(reservation)) continue;
    const absl::Time start = reservation.start_mono;
    const absl::Duration useful = 2 * job.needs->stop_deadline + draft_.options().backfill_least;
    const bool ends = start != absl::InfiniteFuture() && now() + run <= start;
    const bool yields = job.needs->preemptible && start - now() > useful;
    if (ends || yields) open.push_back(&hidden);
  }
  std::vector<RankPlacement> lent;
  for (const auto* hidden : open) {
    std::copy_if(hidden->begin(), hidden->end(), std::back_inserter(lent),
                 [&](const RankPlacement& rank) { return !IsPromised(rank); });
  }
  if (lent.empty()) return std::nullopt;
  free_.Give(lent);
  std::optional<std::vector<RankPlacement>> ranks = Place(job, most, least, suitable);
  free_.Take(lent);
  return ranks;
}

bool SchedulingPass::IsPromised(const RankPlacement& rank) const {
  return std::any_of(kept_.begin(), kept_.end(), [&](const auto& entry) {
    const Reservation& reservation = entry.second;
    return reservation.preempting && std::any_of(reservation.ranks.begin(), reservation.ranks.end(),
                                                 [&](const RankPlacement& it) { return SameSlot(it, rank); });
  });
}

bool SchedulingPass::WaitsForOthers(const Reservation& reservation) const {
  return std::any_of(reservation.ranks.begin(), reservation.ranks.end(), [&](const RankPlacement& rank) {
    const JobRecord* holder = HolderOf(rank);
    return holder != nullptr && holder->live_attempt() != nullptr &&
           holder->live_attempt()->stop_mode == StopMode::kNone && !holder->live_attempt()->backfill;
  });
}

void SchedulingPass::YieldTo(const Reservation& reservation) {
  const bool waits = WaitsForOthers(reservation);
  std::set<std::string> yielding;
  for (const RankPlacement& rank : reservation.ranks) {
    const JobRecord* holder = HolderOf(rank);
    if (holder == nullptr || !holder->live_attempt()->backfill ||
        holder->live_attempt()->stop_mode != StopMode::kNone) {
      continue;
    }
    const bool in_time = PredictedEnd(*holder, now()) <= reservation.start_mono ||
                         reservation.start_mono - holder->needs->stop_deadline > now();
    if (!waits || !in_time) yielding.insert(holder->id);
  }
  for (const std::string& id : yielding) {
    MakeRoom(id, StopCause::kYield, StatusReason::kYielded,
             absl::StrCat("gives the devices that were reserved for job ", reservation.job, " to it"));
  }
  if (waits || yielding.empty() || reservation.preempting) return;
  // All of it is on its way: no equal takes it from here on, least of all who yielded.
  Reservation firm = reservation;
  firm.preempting = true;
  for (const std::string& id : yielding)
    firm.start_mono = std::max(firm.start_mono, now() + draft_.Job(id)->needs->stop_deadline);
  kept_[firm.job] = firm;
  draft_.Mutate(PutReservation{std::move(firm)});
}

void SchedulingPass::Reserve(const JobRecord& job, const Suitable& suitable) {
  if (IsReserved(suitable)) return;
  const std::string id = job.id;
  std::optional<Reservation> plan;
  if (std::optional<Preemption> preemption = FindVictims(draft_, job, suitable, free_)) {
    for (const std::string& victim : preemption->victims) Preempt(victim, job);
    plan = std::move(preemption->reservation);
  } else {
    plan = Forecast(draft_, job, suitable, free_);
  }
  if (plan.has_value()) {
    plan->made_mono = now();
    draft_.Mutate(PutReservation{*plan});
    kept_[id] = *std::move(plan);
    Hide(id);
  } else {  // An orphan, of which nobody knows when it ends, holds what is needed.
    KeepClasses(suitable);
    unplanned_.push_back(state_.queue().ShapeIdOf(job));
  }
}

void SchedulingPass::Preempt(const std::string& id, const JobRecord& by) {
  const double price = Holder::Of(*draft_.Job(id), draft_.CheckpointsOf(id)).Price(draft_.options().restart_cost);
  JobRecord& victim = draft_.EditJob(id);
  if (now() - victim.churn_since_mono >= draft_.options().churn_window) {
    victim.churn = 0;
    victim.churn_since_mono = now();
  }
  ++victim.churn;
  ++victim.preemptions;
  draft_.Event(JobName(id), "JOB_PREEMPTED",
               absl::StrCat("by job ", by.id, " of priority ", by.priority, " (its own: ", victim.priority, "); costs ",
                            static_cast<int64_t>(price),
                            " images, devices x images since the last "
                            "checkpoint and restart"));
  MakeRoom(id, StopCause::kPreempt, StatusReason::kPreempted,
           absl::StrCat("makes room for job ", by.id, " of priority ", by.priority));
}

}  // namespace p2::scheduler
