// One scheduling pass, split over three files: whose turn it is and who starts (schedule.cc), devices that are kept for
// those who wait (reservations.cc), and what the others are told (pass_reasons.cc). Internal to server/scheduler.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "server/scheduler/capacity.h"
#include "server/scheduler/decisions.h"
#include "server/scheduler/queue_cursor.h"

namespace p2::scheduler {

// Why a job waits, `wants` being its shape (pass_reasons.cc).
StatusReason TooFewExist(const Suitable& suitable, int least);
Blocked TooFewExist(const JobRecord& job, const JobShape& wants, const Suitable& suitable);
Blocked Waiting(const JobShape& wants);
Blocked OverQuota(const JobShape& wants, const Allowance& allowance);

bool SameSlot(const RankPlacement& a, const RankPlacement& b);

// Every queued job is looked at in its order, but of those that are the same to placement (owner, priority, shape) only
// the first that does not fit; and none of a shape for which there are too few devices behind a reservation. Confined
// to one call of Step.
class SchedulingPass {
 public:
  explicit SchedulingPass(Draft& draft);

  void Run();

 private:
  using ShapeId = QueueIndex::ShapeId;
  using ClassId = SlotIndex::ClassId;
  using BlockedPtr = std::shared_ptr<const Blocked>;

  absl::Time now() const { return draft_.now().mono; }

  // --- schedule.cc ---
  // Whether the pass is due for nothing but devices that came, and those help nobody who waits.
  bool NothingToDo();
  const Suitable& SuitableOf(ShapeId id);
  // No free device helps anybody in the queue.
  bool AllBlocked() const { return blocked_count_ == state_.queue().ready_shapes(); }
  // None of such jobs can start, for this reason.
  void BlockShape(ShapeId id, BlockedPtr why);
  // Null: they may.
  const Blocked* BlockedOf(ShapeId id) const { return shapes_[id].blocked.get(); }
  // In two rounds, the second for those who borrow. False: it is to be begun anew, since those who stood behind a
  // reservation have a turn now.
  bool Offer(const QueueIndex::Projects& level);
  // Devices that the job got; 0: none, for the reason in blocked_, or since it has to borrow them.
  int Consider(const JobRecord& job, ShapeId shape, bool borrowing);
  int Block(BlockedPtr why);
  // On workers where it broke, only if it fits nowhere else: one broken device must not use up its restarts.
  std::optional<std::vector<RankPlacement>> Place(const JobRecord& job, int most, int least, const Suitable& suitable);
  // What is free on workers where the job broke.
  std::vector<RankPlacement> Shunned(const JobRecord& job, const FreeSlots& free) const;
  int Start(const JobRecord& job, std::vector<RankPlacement> ranks, bool backfill);
  // Elastic jobs that just saved a checkpoint take what nobody waits for.
  void GrowElasticJobs();
  void MakeRoom(const std::string& id, StopCause cause, StatusReason reason, std::string message);
  // For jobs that come next, and for the next pass.
  void Remember();

  // --- reservations.cc ---
  // Drops reservations whose job no longer waits, whose time has passed, or whose devices went to somebody else.
  void KeepReservations();
  // The job whose live attempt, as of the pass's beginning, holds the slot; null: it is free or held by an orphan.
  const JobRecord* HolderOf(const RankPlacement& rank) const;
  // Devices for which others were stopped are kept for jobs of this priority from the level's beginning: no equal takes
  // them. All other reservations hold from their job's turn on: who comes before it by fair share may take them.
  void HidePreempted(int priority);
  // From here on, down the queue, the job's reservation is not there for others.
  void Hide(const std::string& id);
  // From here on, down the queue, such devices are kept for those before.
  void KeepClasses(const Suitable& suitable);
  bool IsReserved(const Suitable& suitable) const;
  // A job started for which devices were kept: who was blocked behind it no longer is.
  void Reopen();
  void AddReserved(const Suitable& suitable);
  void Drop(const std::string& id);
  // Those of this priority for whom others were stopped, and who have all their devices now. Jobs of higher priority
  // had their turn before.
  void StartPreemptors(int priority);
  // Reservations that hold for nobody any more: another job came before theirs.
  void DropOutrun();
  // Places the job on devices that are reserved for others, if it is gone in time or can be asked to go.
  std::optional<std::vector<RankPlacement>> Backfill(const JobRecord& job, const Suitable& suitable, int most);
  // Others were stopped for whom it is: reservations overlap, and who got it on loan from another would be sent away at
  // once.
  bool IsPromised(const RankPlacement& rank) const;
  // Somebody who does not go at once holds a device of it: there is time.
  bool WaitsForOthers(const Reservation& reservation) const;
  // Asks those who run on its devices until it can start to go, once nobody else is in the way, or if else they would
  // be there too long.
  void YieldTo(const Reservation& reservation);
  // The first job that has to wait on some class of devices gets them before those behind it.
  void Reserve(const JobRecord& job, const Suitable& suitable);
  void Preempt(const std::string& id, const JobRecord& by);

  // --- pass_reasons.cc ---
  // Reasons of a shape. What the last pass said is not said anew: both follow from the shape alone.
  BlockedPtr WaitsForDevices(ShapeId id) const;
  BlockedPtr WaitsForWorkers(ShapeId id, const JobRecord& job, const Suitable& suitable) const;
  bool WasTold(ShapeId id, StatusReason reason) const;
  // Gives each job that waits its reason; most have it already.
  void Explain();
  // Lines of a shape for which there are too few devices, but whose own quota would not let them have any.
  void FindOverQuota();
  // All of a line have the same reason; its first job that was told one shows whether that has changed. Those that
  // were not told any come after.
  void ExplainLine(const QueueIndex::Line& line, const Blocked& blocked);
  void SetReason(const JobPtr& base, const Blocked& blocked);

  Draft& draft_;
  const ClusterState& state_;
  FreeSlots free_;
  struct ShapeState {
    const PassMemo::Shape* known = nullptr;  // Of the last pass.
    std::optional<Suitable> suitable;        // Found out when it is asked for.
    BlockedPtr blocked;
  };
  std::vector<ShapeState> shapes_;  // By ShapeId.
  QueueCursor::Blocked is_blocked_;
  int blocked_count_ = 0;
  std::map<std::string, Reservation> kept_;
  // What of the reservations in kept_ is taken out of free_, by job.
  std::map<std::string, std::vector<RankPlacement>> hidden_;
  std::vector<ClassId> reserved_classes_;  // Sorted.
  std::vector<ShapeId> unplanned_;  // Shapes of jobs that are first for devices of which nobody knows when they come.
  bool reopened_ = false;
  // Account -> devices given in this pass; share -> the same.
  std::map<std::string, int> more_held_, given_;
  bool made_room_ = false;
  // Of the job that was considered last.
  BlockedPtr blocked_;
  bool has_to_borrow_ = false;
  std::map<const QueueIndex::Line*, Blocked> reasons_;  // Of lines that a quota holds back.
};

}  // namespace p2::scheduler
