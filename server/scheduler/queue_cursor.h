// Whose turn it is among the ready jobs of one priority: fair share between projects, then between the owners of a
// project, then along the owner's line.
#pragma once

#include <cstddef>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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

  // `level`: of QueueIndex::ready(). `given`: devices that shares, by ID, have got beyond those of `state`.
  QueueCursor(const ClusterState& state, const QueueIndex::Projects& level, const std::map<std::string, int>& given,
              absl::Time now_mono, const StepOptions& options);

  // The job whose turn it is, of those whose shape is not `blocked`; nullopt when none is left. After each, one of the
  // three below says what became of it. What is blocked once must stay so.
  using Blocked = std::vector<bool>;  // By ShapeId.
  std::optional<Turn> Next(const Blocked& blocked);
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
    QueueIndex::ShapeId shape;
    const QueueIndex::Line* jobs;
    QueueIndex::Line::const_iterator next;
    bool rests;
  };
  // A share, and what it has got here.
  struct Claim {
    const ShareRecord* record;
    int devices = 0;  // Beyond those of the record.
  };
  // Those who have something to offer: (score, index); whose score is the lowest comes first, then whose ID is.
  class Order {
   public:
    void Put(double score, size_t index);
    void Pop();
    void Clear() { heap_.clear(); }
    bool empty() const { return heap_.empty(); }
    size_t first() const { return heap_.front().second; }

   private:
    std::vector<std::pair<double, size_t>> heap_;
  };
  struct OwnerState {
    Claim claim;
    const QueueIndex::Lines* all;  // Null once they stand in `lines`.
    std::vector<LineState> lines;  // Made when the owner has its first turn.
  };
  struct ProjectState {
    Claim claim;
    std::vector<OwnerState> owners;  // By ID.
    Order order;
  };
  static constexpr size_t kNone = std::numeric_limits<size_t>::max();

  double Score(const Claim& claim) const;
  // Index of the line whose turn it is; kNone if all rest.
  static size_t FirstLine(const OwnerState& owner);
  // Makes the lines at the owner's first turn, and drops those of blocked shapes.
  static void OpenLines(OwnerState& owner, const Blocked& blocked);
  // Puts owner and project back into their orders, if they have jobs to offer.
  void Return();
  void CloseLine();

  const ClusterState& state_;
  const absl::Time now_;
  const StepOptions& options_;
  std::vector<ProjectState> projects_;  // By ID.
  Order order_;
  // Of the turn in progress; project and owner are taken out of the orders.
  size_t project_ = 0, owner_ = 0, line_ = 0;
};

// All ready jobs in the order in which devices would be offered to them if each got its own.
std::vector<std::string> QueueOrder(const ClusterState& state, absl::Time now_mono, const StepOptions& options);

}  // namespace p2::scheduler
