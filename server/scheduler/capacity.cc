#include "server/scheduler/capacity.h"

#include <algorithm>
#include <iterator>
#include <memory>

#include "absl/strings/str_cat.h"
#include "server/scheduler/decisions.h"
#include "server/scheduler/shares.h"

namespace p2::scheduler {

std::shared_ptr<const ShapeClasses> ClassesFor(const ClusterState& state, const JobShape& shape) {
  const std::map<std::string, std::string>& queue = state.SelectorOf(shape.queue);
  auto found = std::make_shared<ShapeClasses>();
  for (const auto& [id, in] : state.slots().classes()) {
    if (!SuitsButForRoots(shape, queue, in.traits)) continue;
    found->but_for_roots.push_back(id);
    if (Suits(shape, queue, in.traits)) found->classes.push_back(id);
  }
  return found;
}

Suitable Count(const ClusterState& state, std::shared_ptr<const ShapeClasses> classes) {
  const int exist = state.slots().MostOfAll(classes->classes);
  // One is a part of the other.
  const bool same = classes->classes.size() == classes->but_for_roots.size();
  return {classes, exist, same ? exist : state.slots().MostOfAll(classes->but_for_roots)};
}

Suitable SuitableFor(const ClusterState& state, const JobShape& shape) {
  return Count(state, ClassesFor(state, shape));
}

std::vector<RankPlacement> HeldRanks(const JobRecord& job) {
  std::vector<RankPlacement> held;
  if (const Attempt* attempt = job.live_attempt(); attempt != nullptr) {
    for (const RankPlacement& rank : attempt->ranks) {
      if (attempt->FindMember(rank.worker)->state != MemberState::kEnded) held.push_back(rank);
    }
  }
  return held;
}

absl::Time PredictedEnd(const JobRecord& job, absl::Time now_mono) {
  return job.live_attempt() == nullptr ? now_mono : now_mono + PredictedRest(job);
}

namespace {

// Whether an attempt holds a slot of some classes.
class HoldsSlotOf {
 public:
  HoldsSlotOf(const SlotIndex& index, const std::vector<SlotIndex::ClassId>& classes)
      : index_(index), wanted_(classes), all_(classes.size() == index.classes().size()) {}

  bool operator()(const Attempt& attempt) const {
    return all_ || std::any_of(attempt.ranks.begin(), attempt.ranks.end(), [&](const RankPlacement& rank) {
             const auto node = index_.FindNode(rank.worker);
             if (!node.has_value()) return false;
             const auto at = index_.ClassWith(*node, rank.slot);
             return at.has_value() && std::find(wanted_.begin(), wanted_.end(), at->first) != wanted_.end();
           });
  }

 private:
  const SlotIndex& index_;
  const std::vector<SlotIndex::ClassId>& wanted_;
  const bool all_;
};

// Those who hold devices, the first to give them back first, as the draft has them.
class EndingsOf {
 public:
  explicit EndingsOf(const Draft& draft) : draft_(draft), next_(draft.base().endings().begin()) {
    for (const auto& [id, changed] : draft.changed_jobs()) {
      const JobPtr& base = draft.base().FindJob(id);
      if (base != nullptr && base->live_attempt() != nullptr && changed.record->live_attempt() != nullptr)
        changed_.insert(Ending::Of(changed.record));
    }
    next_changed_ = changed_.begin();
    SkipChanged();
  }

  // Null: there are no more.
  const Ending* Next() {
    const Endings& base = draft_.base().endings();
    const bool more = next_ != base.end(), more_changed = next_changed_ != changed_.end();
    if (!more && !more_changed) return nullptr;
    if (!more || (more_changed && *next_changed_ < *next_)) return &*next_changed_++;
    const Ending* ending = &*next_++;
    SkipChanged();
    return ending;
  }

 private:
  void SkipChanged() {
    while (next_ != draft_.base().endings().end() && draft_.Now(next_->job) != next_->job.get()) ++next_;
  }

  const Draft& draft_;
  Endings changed_;
  Endings::const_iterator next_, next_changed_;
};

}  // namespace

std::vector<const JobRecord*> HoldersOf(const Draft& draft, const std::vector<SlotIndex::ClassId>& classes) {
  const HoldsSlotOf holds_slot(draft.base().slots(), classes);
  std::vector<const JobRecord*> holders;
  holders.reserve(draft.base().holders().size());
  for (const auto& [id, holder] : draft.base().holders()) {
    const JobRecord* job = draft.Now(holder.job);
    const Attempt* attempt = job->live_attempt();
    if (attempt != nullptr && holds_slot(*attempt)) holders.push_back(job);
  }
  return holders;
}

std::optional<Reservation> Forecast(const Draft& draft, const JobRecord& job, const Suitable& suitable,
                                    const FreeSlots& free) {
  const HoldsSlotOf holds_slot(draft.base().slots(), suitable.classes());
  EndingsOf endings(draft);
  FreeSlots then = free;
  Reservation plan{job.id, draft.now().mono, {}, false};
  const int least = job.needs->least_devices();
  while (true) {
    if (auto ranks = then.Place(least, least, suitable.classes())) {
      plan.ranks = *std::move(ranks);
      return plan;
    }
    const Ending* ending = endings.Next();
    while (ending != nullptr && !holds_slot(*ending->job->live_attempt())) ending = endings.Next();
    if (ending == nullptr) return std::nullopt;
    plan.start_mono = std::max(plan.start_mono, draft.now().mono + ending->rest);
    then.Give(HeldRanks(*ending->job));
  }
}

std::array<std::string, 2> AccountsOf(const JobRecord& job) {
  return {absl::StrCat("projects/", job.details->project), absl::StrCat("users/", job.details->owner)};
}

namespace {

// `held` more than its quota for certain, `less` of them already counted out.
bool HoldsBorrowed(const ClusterState& state, const JobRecord& job, const std::map<std::string, int>& less) {
  for (const std::string& account : AccountsOf(job)) {
    const auto quota = state.quotas().find(account);
    if (quota == state.quotas().end() || !quota->second.devices.has_value()) continue;
    const auto out = less.find(account);
    if (state.HeldBy(account) - (out == less.end() ? 0 : out->second) > *quota->second.devices) return true;
  }
  return false;
}

bool MayBePreempted(const Holder& holder, const Draft& draft) {
  if (!holder.preemptible || holder.stopping) return false;
  const bool within_window = draft.now().mono - holder.churn_since_mono < draft.options().churn_window;
  return !within_window || holder.churn < draft.options().churn_limit;
}

}  // namespace

std::optional<Preemption> FindVictims(const Draft& draft, const JobRecord& job, const Suitable& suitable,
                                      const FreeSlots& free) {
  const ClusterState& state = draft.base();
  const int least = job.needs->least_devices();
  const auto& held = state.held_priorities();
  if (state.quotas().empty() && (held.empty() || held.begin()->first >= job.priority)) return std::nullopt;
  const Allowance allowance = AllowanceOf(state, job, {});
  const bool within_quota = !allowance.within.has_value() || *allowance.within >= least;
  struct Victim {
    double price;
    const JobRecord* job;
  };
  std::vector<Victim> candidates;
  FreeSlots then = free;
  absl::Time start = draft.now().mono;
  const HoldsSlotOf holds_slot(state.slots(), suitable.classes());
  const bool may_reclaim = within_quota && !state.quotas().empty();
  for (const auto& [id, base] : state.holders()) {
    const bool is_changed = draft.IsChanged(base.job);
    const bool comes_first = base.priority > job.priority || (base.priority == job.priority && !may_reclaim);
    if (!is_changed && !base.stopping && comes_first) continue;
    const JobRecord& record = *draft.Now(base.job);
    if (record.live_attempt() == nullptr) continue;
    const Holder holder = is_changed ? Holder::Of(record, draft.CheckpointsOf(id)) : base;
    if (holder.stopping) {
      if (!holds_slot(*record.live_attempt())) continue;
      then.Give(HeldRanks(record));
      start = std::max(start, PredictedEnd(record, draft.now().mono));
    } else if (MayBePreempted(holder, draft) &&
               (holder.priority < job.priority ||
                (may_reclaim && holder.priority == job.priority && HoldsBorrowed(state, record, {}))) &&
               holds_slot(*record.live_attempt())) {
      candidates.push_back({holder.Price(draft.options().restart_cost), &record});
    }
  }
  if (then.Place(least, least, suitable.classes()).has_value()) return std::nullopt;
  // The cheapest stands in front; few of many are needed.
  const auto dearer = [](const Victim& a, const Victim& b) {
    return std::tie(b.price, b.job->id) < std::tie(a.price, a.job->id);
  };
  std::make_heap(candidates.begin(), candidates.end(), dearer);
  std::vector<const JobRecord*> chosen;
  std::map<std::string, int> reclaimed;
  std::optional<std::vector<RankPlacement>> ranks;
  FreeSlots with_all = then;
  for (auto end = candidates.end(); end != candidates.begin(); --end) {
    std::pop_heap(candidates.begin(), end, dearer);
    const Victim& victim = *std::prev(end);
    if (victim.job->priority >= job.priority && !HoldsBorrowed(state, *victim.job, reclaimed)) continue;
    const std::vector<RankPlacement> held = HeldRanks(*victim.job);
    with_all.Give(held);
    for (const std::string& account : AccountsOf(*victim.job)) reclaimed[account] += static_cast<int>(held.size());
    chosen.push_back(victim.job);
    if ((ranks = with_all.Place(least, least, suitable.classes())).has_value()) break;
  }
  if (!ranks.has_value()) return std::nullopt;
  // Those that the later ones made needless are spared, the dearest first.
  for (size_t i = chosen.size(); i-- > 0;) {
    FreeSlots without = then;
    for (size_t other = 0; other < chosen.size(); ++other) {
      if (other != i) without.Give(HeldRanks(*chosen[other]));
    }
    if (auto fewer = without.Place(least, least, suitable.classes()); fewer.has_value()) {
      ranks = std::move(fewer);
      chosen.erase(chosen.begin() + static_cast<ptrdiff_t>(i));
    }
  }
  Preemption preemption;
  for (const JobRecord* victim : chosen) {
    preemption.victims.push_back(victim->id);
    start = std::max(start, draft.now().mono + victim->needs->stop_deadline);
  }
  preemption.reservation = {job.id, start, *std::move(ranks), /*preempting=*/true};
  return preemption;
}

Allowance AllowanceOf(const ClusterState& state, const JobRecord& job, const std::map<std::string, int>& more_held) {
  Allowance allowance;
  for (const std::string& account : AccountsOf(job)) {
    const auto found = state.quotas().find(account);
    if (found == state.quotas().end() || !found->second.devices.has_value()) continue;
    const QuotaRecord& quota = found->second;
    const auto more = more_held.find(account);
    const int held = state.HeldBy(account) + (more == more_held.end() ? 0 : more->second);
    const int within = std::max(0, *quota.devices - held);
    if (!allowance.within.has_value() || within < *allowance.within) {
      allowance.within = within;
      if (allowance.limit.empty()) allowance.limit = account;
    }
    if (quota.borrow < 0) continue;
    const int borrowed = std::max(0, *quota.devices + quota.borrow - held);
    if (!allowance.borrowed.has_value() || borrowed < *allowance.borrowed) {
      allowance.borrowed = borrowed;
      allowance.limit = account;
    }
  }
  return allowance;
}

bool FitsElsewhere(const Draft& draft, const JobRecord& job) {
  const Suitable suitable = SuitableFor(draft.base(), ShapeOf(job));
  FreeSlots free(draft.base().slots());
  free.Give(HeldRanks(job));
  return free.Place(job.needs->devices, job.needs->least_devices(), suitable.classes()).has_value();
}

}  // namespace p2::scheduler
