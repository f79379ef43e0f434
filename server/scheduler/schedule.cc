#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/scheduler/scheduling_pass.h"
#include "server/scheduler/shares.h"

namespace p2::scheduler {
namespace {

// A reservation that stops nobody is found anew after so long: somebody may have become preemptible.
constexpr absl::Duration kPlanAgain = absl::Seconds(10);

}  // namespace

SchedulingPass::SchedulingPass(Draft& draft)
    : draft_(draft),
      state_(draft.base()),
      free_(state_.slots()),
      shapes_(state_.queue().shapes().size()),
      is_blocked_(shapes_.size()) {
  const PassMemo* memo = state_.pass_memo();
  if (memo == nullptr) return;
  for (size_t id = 0; id < shapes_.size(); ++id)
    shapes_[id].known = memo->Find(static_cast<ShapeId>(id), state_.queue().shapes()[id].serial);
}

// Nothing changed but that devices came. All who wait are still blocked if for every shape there are too few of them
// even when those that are reserved count as free, and if what it was told of how many exist is still true.
bool SchedulingPass::NothingToDo() {
  const PassMemo* memo = state_.pass_memo();
  const QueueIndex& queue = state_.queue();
  if (state_.pass_need() != PassNeed::kIfDevicesSuit || memo == nullptr || memo->plans_missing) return false;
  if (!state_.growing_jobs().empty() || !queue.unexplained().empty()) return false;
  for (ShapeId id = 0; id < static_cast<ShapeId>(shapes_.size()); ++id) {
    const PassMemo::Shape* known = shapes_[id].known;
    if (queue.shapes()[id].ready == 0 || known == nullptr || known->blocked == nullptr) {
      continue;  // If any are ready, a quota holds all of them back.
    }
    const int least = queue.Wants(id).least_devices;
    const Suitable& suitable = SuitableOf(id);
    const StatusReason told = known->blocked->reason;
    const bool told_too_few = told == StatusReason::kNotEnoughDevices || told == StatusReason::kRootNotVisible;
    const bool stays = suitable.exist < least ? told_too_few && told == TooFewExist(suitable, least)
                                              : !told_too_few && state_.slots().MostFree(suitable.classes()) < least;
    if (!stays) return false;
  }
  return true;
}

void SchedulingPass::Run() {
  if (NothingToDo()) return draft_.PassDone(false);
  KeepReservations();
  for (const auto& [priority, projects] : state_.queue().ready()) {
    StartPreemptors(priority);
    HidePreempted(priority);
    while (!AllBlocked() && !Offer(projects)) {
    }
  }
  DropOutrun();
  Explain();
  GrowElasticJobs();
  Remember();
  draft_.PassDone(made_room_);
}

const Suitable& SchedulingPass::SuitableOf(ShapeId id) {
  ShapeState& shape = shapes_[id];
  if (shape.suitable.has_value()) return *shape.suitable;
  const PassMemo* memo = state_.pass_memo();
  const bool holds = shape.known != nullptr && shape.known->classes != nullptr &&
                     memo->classes_generation == state_.classes_generation();
  shape.suitable = Count(state_, holds ? shape.known->classes : ClassesFor(state_, state_.queue().Wants(id)));
  return *shape.suitable;
}

void SchedulingPass::BlockShape(ShapeId id, BlockedPtr why) {
  ShapeState& shape = shapes_[id];
  if (shape.blocked == nullptr) ++blocked_count_;
  is_blocked_[id] = true;
  const bool known = shape.known != nullptr && shape.known->blocked != nullptr && *shape.known->blocked == *why;
  shape.blocked = known ? shape.known->blocked : std::move(why);
}

bool SchedulingPass::Offer(const QueueIndex::Projects& level) {
  reopened_ = false;
  QueueCursor cursor(state_, level, given_, now(), draft_.options());
  for (const bool borrowing : {false, true}) {
    if (borrowing) cursor.NextRound();
    while (!AllBlocked()) {
      const auto turn = cursor.Next(is_blocked_);
      if (!turn.has_value()) break;
      const JobRecord& job = *draft_.Now(turn->job);
      if (job.state != JobState::kQueued) {  // Started already, for its reservation.
        cursor.Started(0);
      } else if (const int started = Consider(job, turn->shape, borrowing); started > 0) {
        if (reopened_) return false;
        cursor.Started(started);
      } else if (has_to_borrow_) {
        cursor.LineRests();
      } else if (blocked_->reason == StatusReason::kQuotaExceeded) {
        reasons_[&turn->line] = *blocked_;
        cursor.LineWaits();
      } else {
        BlockShape(turn->shape, std::move(blocked_));
        cursor.LineWaits();
      }
    }
  }
  return true;
}

int SchedulingPass::Consider(const JobRecord& job, ShapeId shape, bool borrowing) {
  has_to_borrow_ = false;
  const JobShape& wants = state_.queue().Wants(shape);
  const int least = wants.least_devices;
  if (state_.disk_full())
    return Block(std::make_shared<const Blocked>(Blocked{StatusReason::kDiskFull, state_.disk_message()}));
  const Suitable& suitable = SuitableOf(shape);
  if (suitable.exist < least) return Block(WaitsForWorkers(shape, job, suitable));
  const Allowance allowance = state_.quotas().empty() ? Allowance{} : AllowanceOf(state_, job, more_held_);
  const std::optional<int>& allowed = borrowing ? allowance.borrowed : allowance.within;
  if (allowed.has_value() && *allowed < least) {
    if (!borrowing && (!allowance.borrowed.has_value() || *allowance.borrowed >= least)) {
      has_to_borrow_ = true;
      return 0;
    }
    return Block(std::make_shared<const Blocked>(OverQuota(wants, allowance)));
  }
  const int most = std::min(wants.devices, allowed.value_or(wants.devices));

  const auto hidden = hidden_.find(job.id);
  if (hidden != hidden_.end()) free_.Give(hidden->second);
  if (auto ranks = Place(job, most, least, suitable)) return Start(job, *std::move(ranks), false);
  if (hidden != hidden_.end()) free_.Take(hidden->second);
  if (const auto own = kept_.find(job.id); own != kept_.end()) {
    const bool outrun = hidden == hidden_.end() && IsReserved(suitable);
    const bool old = !own->second.preempting && own->second.made_mono + kPlanAgain < now();
    if (!outrun && !old) {
      if (hidden == hidden_.end()) Hide(job.id);
      YieldTo(own->second);
      return Block(WaitsForDevices(shape));
    }
    Drop(job.id);
  }
  if (auto ranks = Backfill(job, suitable, most)) return Start(job, *std::move(ranks), true);
  Reserve(job, suitable);
  return Block(WaitsForDevices(shape));
}

int SchedulingPass::Block(BlockedPtr why) {
  blocked_ = std::move(why);
  return 0;
}

std::optional<std::vector<RankPlacement>> SchedulingPass::Place(const JobRecord& job, int most, int least,
                                                                const Suitable& suitable) {
  const std::vector<RankPlacement> shunned = Shunned(job, free_);
  if (shunned.empty()) return free_.Place(most, least, suitable.classes());
  FreeSlots elsewhere = free_;
  elsewhere.Take(shunned);
  std::optional<std::vector<RankPlacement>> ranks = elsewhere.Place(most, least, suitable.classes());
  return ranks.has_value() ? ranks : free_.Place(most, least, suitable.classes());
}

std::vector<RankPlacement> SchedulingPass::Shunned(const JobRecord& job, const FreeSlots& free) const {
  std::vector<RankPlacement> shunned;
  for (const std::string& worker : state_.BrokeOn(job.id)) {
    for (const SlotRecord& slot : state_.FindWorker(worker)->slots) {
      const RankPlacement rank{0, worker, slot.id};
      if (free.IsFree(rank)) shunned.push_back(rank);
    }
  }
  return shunned;
}

int SchedulingPass::Start(const JobRecord& job, std::vector<RankPlacement> ranks, bool backfill) {
  const int devices = static_cast<int>(ranks.size());
  free_.Take(ranks);
  const bool kept_apart = hidden_.count(job.id) > 0;
  if (kept_.count(job.id) > 0) Drop(job.id);
  if (kept_apart) Reopen();
  for (auto& [id, hidden] : hidden_) {
    std::erase_if(hidden, [&](const RankPlacement& rank) {
      return std::any_of(ranks.begin(), ranks.end(), [&](const RankPlacement& taken) { return SameSlot(taken, rank); });
    });
  }
  for (const std::string& account : AccountsOf(job)) more_held_[account] += devices;
  const JobDetails& details = *job.details;
  given_[ProjectShare(details.project)] += devices;
  given_[OwnerShare(details.project, details.owner)] += devices;
  StartAttempt(draft_, job.id, std::move(ranks), backfill);
  return devices;
}

void SchedulingPass::GrowElasticJobs() {
  for (const std::string& id : state_.growing_jobs()) {
    draft_.TouchJob(id).may_grow = false;
    const JobRecord& job = *draft_.Job(id);
    const Attempt* attempt = job.live_attempt();
    if (job.state != JobState::kRunning || attempt->stop_mode != StopMode::kNone) continue;
    const Suitable suitable = SuitableFor(state_, ShapeOf(job));
    if (IsReserved(suitable)) continue;
    const int devices = static_cast<int>(attempt->ranks.size());
    const Allowance allowance = AllowanceOf(state_, job, more_held_);
    const int most = std::min(job.needs->devices, devices + allowance.borrowed.value_or(job.needs->devices));
    FreeSlots then = free_;
    then.Give(HeldRanks(job));
    then.Take(Shunned(job, then));  // As when it starts again.
    const auto ranks = then.Place(most, devices + 1, suitable.classes());
    if (!ranks.has_value()) continue;
    MakeRoom(id, StopCause::kGrow, StatusReason::kResizing,
             absl::StrCat("starts again on ", ranks->size(), " devices instead of ", devices));
  }
}

void SchedulingPass::MakeRoom(const std::string& id, StopCause cause, StatusReason reason, std::string message) {
  Move(draft_, id, JobState::kPausing, reason, std::move(message));
  draft_.EditJob(id).stop_cause = cause;
  StopGang(draft_, id, StopMode::kCheckpoint);
  made_room_ = true;
}

void SchedulingPass::Remember() {
  const PassMemo* before = state_.pass_memo();
  auto memo = std::make_shared<PassMemo>();
  memo->classes_generation = state_.classes_generation();
  memo->shapes.resize(shapes_.size());
  const bool holds = before != nullptr && before->classes_generation == memo->classes_generation;
  for (size_t id = 0; id < shapes_.size(); ++id) {
    PassMemo::Shape& shape = memo->shapes[id];
    shape.serial = state_.queue().shapes()[id].serial;
    shape.blocked = std::move(shapes_[id].blocked);
    if (shapes_[id].suitable.has_value()) {
      shape.classes = std::move(shapes_[id].suitable->of);
    } else if (holds && shapes_[id].known != nullptr) {
      shape.classes = shapes_[id].known->classes;
    }
  }
  memo->plans_missing = !unplanned_.empty();
  for (const auto& [line, blocked] : reasons_) {
    const JobRecord& job = *state_.FindJob(line->begin()->job);
    memo->over_quota.emplace_back(job.priority, job.details->project, job.details->owner);
  }
  std::sort(memo->over_quota.begin(), memo->over_quota.end());
  bool any = false;
  for (const auto& [id, reservation] : kept_) {
    const int priority = state_.FindJob(id)->priority;
    memo->least_priority = any ? std::min(memo->least_priority, priority) : priority;
    any = true;
  }
  if (!any) memo->least_priority = std::numeric_limits<int>::min();
  draft_.Mutate(PutPassMemo{std::move(memo)});
}

void RunSchedulingPass(Draft& draft) { SchedulingPass(draft).Run(); }

}  // namespace p2::scheduler
