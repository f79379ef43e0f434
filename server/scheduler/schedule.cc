// One scheduling pass. Within it every queued job is looked at in its order, but of those that are the same to
// placement (owner, priority, shape) only the first that does not fit.
#include <algorithm>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/scheduler/capacity.h"
#include "server/scheduler/decisions.h"
#include "server/scheduler/queue_cursor.h"

namespace p2::scheduler {
namespace {

std::string Devices(const JobNeeds& needs) {
  const std::string count = needs.least_devices() < needs.devices
                                ? absl::StrCat(needs.least_devices(), " to ", needs.devices)
                                : absl::StrCat(needs.devices);
  return absl::StrCat(count, needs.kind.empty() ? "" : " ", needs.kind, needs.devices == 1 ? " device" : " devices");
}

// ` (NVIDIA H100, p2 0.1.0: training.bitwise is required)`.
std::string NumericsOf(const JobRecord& job) {
  if (!job.needs->bitwise || job.numerics_version.empty()) return "";
  return absl::StrCat(" (", job.numerics_device, job.numerics_device.empty() ? "" : ", ", "p2 ", job.numerics_version,
                      ": training.bitwise is required)");
}

std::string RootsOf(const JobRecord& job) {
  std::set<std::string> names;
  const JobNeeds& needs = *job.needs;
  for (const std::string& name : {needs.checkpoint_root, needs.dataset_root}) names.insert(name);
  if (job.ReadsSource()) names.insert(needs.source.root);
  names.erase("");
  return absl::StrCat(names.size() == 1 ? "root " : "roots ", absl::StrJoin(names, " and "));
}

bool SameSlot(const RankPlacement& a, const RankPlacement& b) { return a.worker == b.worker && a.slot == b.slot; }

class Pass {
 public:
  explicit Pass(Draft& draft) : draft_(draft), state_(draft.base()), free_(state_.slots()) {}

  void Run() {
    WakeFromBackoff();
    KeepReservations();
    for (const auto& [priority, projects] : state_.queue().ready()) {
      StartPreemptors(priority);
      HidePreempted(priority);
      if (!AllBlocked()) Offer(projects);
    }
    DropOutrun();
    Explain();
    GrowElasticJobs();
    Remember();
    draft_.PassDone(made_room_);
  }

 private:
  using ShapeId = QueueIndex::ShapeId;
  using ClassId = SlotIndex::ClassId;

  absl::Time now() const { return draft_.now().mono; }

  void WakeFromBackoff() {
    for (const auto& [ready, id] : state_.queue().backing_off()) {
      if (ready > now()) break;
      draft_.TouchJob(id).ready_mono = absl::InfinitePast();
      made_room_ = true;  // It is in the queue's order only after this pass.
    }
  }

  const Suitable& SuitableOf(ShapeId id) {
    const auto [it, added] = suitable_.try_emplace(id);
    if (added) it->second = SuitableFor(state_, state_.queue().Shape(id));
    return it->second;
  }

  // The job whose live attempt, as of the pass's beginning, holds the slot; null: it is free or held by an orphan.
  const JobRecord* HolderOf(const RankPlacement& rank) const {
    for (const std::string& id : state_.JobsOn(rank.worker)) {
      const JobRecord* job = draft_.Job(id);
      const std::vector<RankPlacement> held = HeldRanks(*job);
      if (std::any_of(held.begin(), held.end(), [&](const RankPlacement& it) { return SameSlot(it, rank); })) {
        return job;
      }
    }
    return nullptr;
  }

  // Drops reservations whose job no longer waits, whose time has passed, or whose devices went to somebody else.
  void KeepReservations() {
    for (const auto& [id, reservation] : state_.reservations()) {
      const JobRecord* job = draft_.Job(id);
      const bool waits = job != nullptr && job->state == JobState::kQueued && job->ready_mono == absl::InfinitePast();
      const bool late = reservation.start_mono + kGrace < now();
      const bool there =
          std::all_of(reservation.ranks.begin(), reservation.ranks.end(), [&](const RankPlacement& rank) {
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

  // Devices for which others were stopped are kept for jobs of this priority from the level's beginning: no equal takes
  // them. All other reservations hold from their job's turn on: who comes before it by fair share may take them.
  void HidePreempted(int priority) {
    for (const auto& [id, reservation] : kept_) {
      if (reservation.preempting && draft_.Job(id)->priority == priority) Hide(id);
    }
  }

  // From here on, down the queue, the job's reservation is not there for others.
  void Hide(const std::string& id) {
    std::vector<RankPlacement>& hidden = hidden_[id];
    hidden = kept_.at(id).ranks;
    std::erase_if(hidden, [&](const RankPlacement& rank) { return !free_.IsFree(rank); });
    free_.Take(hidden);
    const Suitable& suitable = SuitableOf(state_.queue().ShapeIdOf(*state_.FindJob(id)));
    reserved_classes_.insert(suitable.classes.begin(), suitable.classes.end());
  }

  bool IsReserved(const Suitable& suitable) const {
    return std::any_of(suitable.classes.begin(), suitable.classes.end(),
                       [&](ClassId id) { return reserved_classes_.count(id) > 0; });
  }

  void Drop(const std::string& id) {
    kept_.erase(id);
    hidden_.erase(id);
    draft_.Mutate(EraseReservation{id});
  }

  // No free device helps anybody in the queue.
  bool AllBlocked() const { return blocked_shapes_.size() == state_.queue().ready_shapes().size(); }

  // Those of this priority for whom others were stopped, and who have all their devices now. Jobs of higher priority
  // had their turn before.
  void StartPreemptors(int priority) {
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

  // Reservations that hold for nobody any more: another job came before theirs.
  void DropOutrun() {
    std::vector<std::string> outrun;
    for (const auto& [id, reservation] : kept_) {
      if (!reservation.preempting && hidden_.count(id) == 0) outrun.push_back(id);
    }
    for (const std::string& id : outrun) Drop(id);
  }

  // For jobs that come next.
  void Remember() {
    auto memo = std::make_shared<PassMemo>();
    memo->shapes = std::move(blocked_shapes_);
    bool any = false;
    for (const auto& [id, reservation] : kept_) {
      const int priority = state_.FindJob(id)->priority;
      memo->least_priority = any ? std::min(memo->least_priority, priority) : priority;
      any = true;
    }
    if (!any) memo->least_priority = std::numeric_limits<int>::min();
    draft_.Mutate(PutPassMemo{std::move(memo)});
  }

  // In two rounds, the second for those who borrow.
  void Offer(const QueueIndex::Projects& level) {
    QueueCursor cursor(state_, level, now(), draft_.options());
    for (const bool borrowing : {false, true}) {
      if (borrowing) cursor.NextRound();
      while (!AllBlocked()) {
        const auto turn = cursor.Next(blocked_shapes_);
        if (!turn.has_value()) break;
        const JobRecord& job = *draft_.Now(turn->job);
        if (job.state != JobState::kQueued) {  // Started already, for its reservation.
          cursor.Started(0);
        } else if (const int started = Consider(job, turn->shape, borrowing); started > 0) {
          cursor.Started(started);
        } else if (has_to_borrow_) {
          cursor.LineRests();
        } else if (blocked_.reason == StatusReason::kQuotaExceeded) {
          reasons_[&turn->line] = blocked_;
          cursor.LineWaits();
        } else {
          blocked_shapes_[turn->shape] = blocked_;
          cursor.LineWaits();
        }
      }
    }
  }

  int Block(StatusReason reason, std::string message) {
    blocked_ = {reason, std::move(message)};
    return 0;
  }

  // Devices that the job got; 0: none, for the reason in blocked_, or since it has to borrow them.
  int Consider(const JobRecord& job, ShapeId shape, bool borrowing) {
    has_to_borrow_ = false;
    const JobNeeds& needs = *job.needs;
    const int least = needs.least_devices();
    if (state_.disk_full()) return Block(StatusReason::kDiskFull, state_.disk_message());
    const Suitable& suitable = SuitableOf(shape);
    if (suitable.exist < least) {
      if (suitable.exist_but_for_roots < least) {
        return Block(StatusReason::kNotEnoughDevices,
                     absl::StrCat("needs ", Devices(needs), NumericsOf(job), ", more than all ready workers have"));
      }
      return Block(StatusReason::kRootNotVisible,
                   absl::StrCat("needs ", Devices(needs), " on workers that see ", RootsOf(job)));
    }
    const Allowance allowance = state_.quotas().empty() ? Allowance{} : AllowanceOf(state_, job, more_held_);
    const std::optional<int>& allowed = borrowing ? allowance.borrowed : allowance.within;
    if (allowed.has_value() && *allowed < least) {
      if (!borrowing && (!allowance.borrowed.has_value() || *allowance.borrowed >= least)) {
        has_to_borrow_ = true;
        return 0;
      }
      return Block(StatusReason::kQuotaExceeded,
                   absl::StrCat("needs ", Devices(needs), ", more than the quota of ", allowance.limit, " leaves"));
    }
    const int most = std::min(needs.devices, allowed.value_or(needs.devices));

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
        return Block(StatusReason::kWaitingForDevices, Waiting(needs));
      }
      Drop(job.id);
    }
    if (auto ranks = Backfill(job, suitable, most)) return Start(job, *std::move(ranks), true);
    return Reserve(job, suitable);
  }

  // On workers where it broke, only if it fits nowhere else: one broken device must not use up its restarts.
  std::optional<std::vector<RankPlacement>> Place(const JobRecord& job, int most, int least, const Suitable& suitable) {
    const std::vector<RankPlacement> shunned = Shunned(job, free_);
    if (shunned.empty()) return free_.Place(most, least, suitable.classes);
    FreeSlots elsewhere = free_;
    elsewhere.Take(shunned);
    std::optional<std::vector<RankPlacement>> ranks = elsewhere.Place(most, least, suitable.classes);
    return ranks.has_value() ? ranks : free_.Place(most, least, suitable.classes);
  }

  // What is free on workers where the job broke.
  std::vector<RankPlacement> Shunned(const JobRecord& job, const FreeSlots& free) const {
    std::vector<RankPlacement> shunned;
    for (const std::string& worker : state_.BrokeOn(job.id)) {
      for (const SlotRecord& slot : state_.FindWorker(worker)->slots) {
        const RankPlacement rank{0, worker, slot.id};
        if (free.IsFree(rank)) shunned.push_back(rank);
      }
    }
    return shunned;
  }

  std::string Waiting(const JobNeeds& needs) const {
    return absl::StrCat("needs ", Devices(needs), "; too few of those that suit are free");
  }

  int Start(const JobRecord& job, std::vector<RankPlacement> ranks, bool backfill) {
    const int devices = static_cast<int>(ranks.size());
    free_.Take(ranks);
    if (kept_.count(job.id) > 0) Drop(job.id);
    for (auto& [id, hidden] : hidden_) {
      std::erase_if(hidden, [&](const RankPlacement& rank) {
        return std::any_of(ranks.begin(), ranks.end(),
                           [&](const RankPlacement& taken) { return SameSlot(taken, rank); });
      });
    }
    for (const std::string& account : AccountsOf(job)) more_held_[account] += devices;
    StartAttempt(draft_, job.id, std::move(ranks), backfill);
    return devices;
  }

  // Places the job on devices that are reserved for others, if it is gone in time or can be asked to go.
  std::optional<std::vector<RankPlacement>> Backfill(const JobRecord& job, const Suitable& suitable, int most) {
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

  // Others were stopped for whom it is: reservations overlap, and who got it on loan from another would be sent away at
  // once.
  bool IsPromised(const RankPlacement& rank) const {
    return std::any_of(kept_.begin(), kept_.end(), [&](const auto& entry) {
      const Reservation& reservation = entry.second;
      return reservation.preempting && std::any_of(reservation.ranks.begin(), reservation.ranks.end(),
                                                   [&](const RankPlacement& it) { return SameSlot(it, rank); });
    });
  }

  // Somebody who does not go at once holds a device of it: there is time.
  bool WaitsForOthers(const Reservation& reservation) const {
    return std::any_of(reservation.ranks.begin(), reservation.ranks.end(), [&](const RankPlacement& rank) {
      const JobRecord* holder = HolderOf(rank);
      return holder != nullptr && holder->live_attempt() != nullptr &&
             holder->live_attempt()->stop_mode == StopMode::kNone && !holder->live_attempt()->backfill;
    });
  }

  // Asks those who run on its devices until it can start to go, once nobody else is in the way, or if else they would
  // be there too long.
  void YieldTo(const Reservation& reservation) {
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

  void MakeRoom(const std::string& id, StopCause cause, StatusReason reason, std::string message) {
    Move(draft_, id, JobState::kPausing, reason, std::move(message));
    draft_.EditJob(id).stop_cause = cause;
    StopGang(draft_, id, StopMode::kCheckpoint);
    made_room_ = true;
  }

  // The first job that has to wait on some class of devices gets them before those behind it.
  int Reserve(const JobRecord& job, const Suitable& suitable) {
    if (IsReserved(suitable)) return Block(StatusReason::kWaitingForDevices, Waiting(*job.needs));
    const std::string id = job.id;
    const std::string waiting = Waiting(*job.needs);
    std::optional<Reservation> plan;
    if (std::optional<Preemption> preemption = FindVictims(draft_, job, suitable, free_)) {
      for (const std::string& victim : preemption->victims) Preempt(victim, job);
      plan = std::move(preemption->reservation);
    } else {
      plan = Forecast(draft_, job, suitable, free_);
    }
    reserved_classes_.insert(suitable.classes.begin(), suitable.classes.end());
    if (plan.has_value()) {  // None: an orphan, of which nobody knows when it ends, holds what is needed.
      plan->made_mono = now();
      draft_.Mutate(PutReservation{*plan});
      kept_[id] = *std::move(plan);
      Hide(id);
    }
    return Block(StatusReason::kWaitingForDevices, waiting);
  }

  void Preempt(const std::string& id, const JobRecord& by) {
    const double price = PreemptionPrice(*draft_.Job(id), draft_);
    JobRecord& victim = draft_.EditJob(id);
    if (now() - victim.churn_since_mono >= draft_.options().churn_window) {
      victim.churn = 0;
      victim.churn_since_mono = now();
    }
    ++victim.churn;
    ++victim.preemptions;
    draft_.Event(JobName(id), "JOB_PREEMPTED",
                 absl::StrCat("by job ", by.id, " of priority ", by.priority, " (its own: ", victim.priority,
                              "); costs ", static_cast<int64_t>(price),
                              " images, devices x images since the last "
                              "checkpoint and restart"));
    MakeRoom(id, StopCause::kPreempt, StatusReason::kPreempted,
             absl::StrCat("makes room for job ", by.id, " of priority ", by.priority));
  }

  // Gives each job that waits its reason; most have it already.
  void Explain() {
    const PassMemo* before = state_.pass_memo();
    std::set<ShapeId> changed;
    for (const auto& [shape, blocked] : blocked_shapes_) {
      const bool known = before != nullptr && before->shapes.count(shape) > 0 && before->shapes.at(shape) == blocked;
      if (!known) changed.insert(shape);
    }
    for (const auto& [line, blocked] : reasons_) ExplainLine(*line, blocked);
    if (!changed.empty()) {
      for (const auto& [priority, projects] : state_.queue().ready()) {
        for (const auto& [project, owners] : projects) {
          for (const auto& [owner, lines] : owners) {
            for (const auto& [shape, line] : lines) {
              if (changed.count(shape) > 0 && reasons_.count(&line) == 0) ExplainLine(line, blocked_shapes_.at(shape));
            }
          }
        }
      }
    }
    for (const std::string& id : state_.queue().unexplained()) {
      const JobPtr& job = state_.FindJob(id);
      const auto line = reasons_.empty() ? reasons_.end() : reasons_.find(&state_.queue().LineOf(*job));
      const auto shape = blocked_shapes_.find(state_.queue().ShapeIdOf(*job));
      if (line != reasons_.end()) {
        SetReason(job, line->second);
      } else if (shape != blocked_shapes_.end()) {
        SetReason(job, shape->second);
      }
    }
  }

  // All of a line have the same reason; its first job that was told one shows whether that has changed. Those that
  // were not told any come after.
  void ExplainLine(const QueueIndex::Line& line, const Blocked& blocked) {
    const auto told = std::find_if(line.begin(), line.end(), [&](const LinePlace& place) {
      return state_.queue().unexplained().count(place.job) == 0 &&
             draft_.Now(state_.FindJob(place.job))->state == JobState::kQueued;
    });
    if (told == line.end()) return;
    const JobRecord& first = *draft_.Now(state_.FindJob(told->job));
    if (first.reason == blocked.reason && first.message == blocked.message) return;
    for (const LinePlace& place : line) SetReason(state_.FindJob(place.job), blocked);
  }

  void SetReason(const JobPtr& base, const Blocked& blocked) {
    const JobRecord& job = *draft_.Now(base);
    if (job.state != JobState::kQueued || (job.reason == blocked.reason && job.message == blocked.message)) return;
    JobRecord& touched = draft_.TouchJob(base);
    touched.reason = blocked.reason;
    touched.message = blocked.message;
  }

  // Elastic jobs that just saved a checkpoint take what nobody waits for.
  void GrowElasticJobs() {
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
      const auto ranks = then.Place(most, devices + 1, suitable.classes);
      if (!ranks.has_value()) continue;
      MakeRoom(id, StopCause::kGrow, StatusReason::kResizing,
               absl::StrCat("starts again on ", ranks->size(), " devices instead of ", devices));
    }
  }

  static constexpr absl::Duration kGrace = absl::Seconds(5);
  // A reservation that stops nobody is found anew after so long: somebody may have become preemptible.
  static constexpr absl::Duration kPlanAgain = absl::Seconds(10);

  Draft& draft_;
  const ClusterState& state_;
  FreeSlots free_;
  std::map<ShapeId, Suitable> suitable_;
  std::map<std::string, Reservation> kept_;
  // What of the reservations in kept_ is taken out of free_, by job.
  std::map<std::string, std::vector<RankPlacement>> hidden_;
  std::set<ClassId> reserved_classes_;
  std::map<std::string, int> more_held_;  // Account -> devices given in this pass.
  bool made_room_ = false;
  // Of the job that was considered last.
  Blocked blocked_;
  bool has_to_borrow_ = false;
  std::map<ShapeId, Blocked> blocked_shapes_;           // None of such jobs can start.
  std::map<const QueueIndex::Line*, Blocked> reasons_;  // Of lines that a quota holds back.
};

}  // namespace

void RunSchedulingPass(Draft& draft) { Pass(draft).Run(); }

}  // namespace p2::scheduler
