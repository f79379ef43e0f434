// Whose turn it is among the ready jobs of one priority: fair share between projects, then between the owners of a
// project, then along the owner's line.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "server/scheduler/cluster_state.h"
#include "server/scheduler/queue_index.h"
#include "server/scheduler/step.h"

namespace p2::scheduler {

// Thread-compatible. The state must not change meanwhile.
class QueueCursor {
 public:
  struct Turn {
    const JobPtr& job;
    QueueIndex::ShapeId shape;
    const QueueIndex::Line& line;
  };

  // `level`: of QueueIndex::ready().
  QueueCursor(const ClusterState& state, const QueueIndex::Projects& level, absl::Time now_mono,
              const StepOptions& options);

  // The job whose turn it is, of those whose shape is not `blocked`; nullopt when none is left. After each, one of the
  // three below says what became of it. What is blocked once must stay so.
  using Blocked = std::map<QueueIndex::ShapeId, scheduler::Blocked>;
  std::optional<Turn> Next(const Blocked& blocked = {});
  // It got so many devices, which count for its owner and project from now on.
  void Started(int devices);
  // It did not, nor would any job behind it in its line.
  void LineWaits();
  // Its line rests until NextRound.
  void LineRests();
  // Lines that rested have their turn again.
  void NextRound();

 private:
  struct LineState {
    const QueueIndex::Line* jobs = nullptr;
    QueueIndex::Line::const_iterator next;
    bool rests = false;
  };
  using Order = std::set<std::pair<double, std::string>>;  // By score, the lowest first.
  struct OwnerState {
    ShareRecord share;
    const QueueIndex::Lines* all = nullptr;          // Null once they stand in `lines`.
    std::map<QueueIndex::ShapeId, LineState> lines;  // Made when the owner has its first turn.
  };
  struct ProjectState {
    ShareRecord share;
    std::map<std::string, OwnerState> owners;
    Order order;
  };

  double Score(const ShareRecord& share) const;
  // Of the owner whose turn it is; end() if all of its lines rest.
  std::map<QueueIndex::ShapeId, LineState>::iterator FirstLine(OwnerState& owner) const;
  // Makes the lines at the owner's first turn, and drops those of blocked shapes.
  static void OpenLines(OwnerState& owner, const Blocked& blocked);
  // Puts owner and project back into their orders, if they have jobs to offer.
  void Return();

  const ClusterState& state_;
  const absl::Time now_;
  const StepOptions& options_;
  std::map<std::string, ProjectState> projects_;
  Order order_;
  // Of the turn in progress; taken out of the orders.
  std::string project_, owner_;
  QueueIndex::ShapeId shape_ = 0;
};

// All ready jobs in the order in which devices would be offered to them if each got its own.
std::vector<std::string> QueueOrder(const ClusterState& state, absl::Time now_mono, const StepOptions& options);

}  // namespace p2::scheduler
