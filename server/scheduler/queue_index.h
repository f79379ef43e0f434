// The queued jobs in the order in which devices are offered to them: by priority, then by fair share between projects
// and between the owners of a project (shares.h), then by their place in their owner's line.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "server/scheduler/job_shape.h"
#include "server/scheduler/types.h"

namespace p2::scheduler {

// Of a job in its owner's line; the lower first.
struct LinePlace {
  int64_t order_key = 0, create_order = 0;
  std::string job;
  auto operator<=>(const LinePlace&) const = default;
};
LinePlace PlaceOf(const JobRecord& job);

// Thread-compatible; a value.
class QueueIndex {
 public:
  using ShapeId = int;  // From 0 without large gaps; one that no queued job has is given to another.
  struct Shape {
    JobShape wants;
    int64_t serial = 0;         // Of no other shape, ever.
    int queued = 0, ready = 0;  // How many jobs have it. queued == 0: none, and the rest means nothing.
  };
  using Line = absl::btree_set<LinePlace>;
  // Jobs of one owner and priority, apart by shape: if the first of a line does not fit, none of it does.
  using Lines = std::map<ShapeId, Line>;
  using Owners = std::map<std::string, Lines>;
  using Projects = std::map<std::string, Owners>;

  // `job`: QUEUED.
  void Add(const JobRecord& job);
  void Remove(const JobRecord& job);
  // The job's record is another one now, in which only why the job waits has changed.
  void Told(const JobRecord& job);

  // Jobs that wait for nothing but devices, by descending priority.
  const std::map<int, Projects, std::greater<int>>& ready() const { return ready_; }
  // By ShapeId, and how many of them ready jobs have.
  const std::vector<Shape>& shapes() const { return shapes_; }
  int ready_shapes() const { return ready_shapes_; }
  // Jobs that wait for their backoff to pass (JobRecord.ready_mono).
  const std::set<std::pair<absl::Time, std::string>>& backing_off() const { return backing_off_; }
  // Ready jobs whose record does not say yet why they wait.
  const absl::btree_set<std::string>& unexplained() const { return unexplained_; }

  // The line that a ready job stands in.
  const Line& LineOf(const JobRecord& job) const {
    return ready_.at(job.priority).at(job.details->project).at(job.details->owner).at(ShapeIdOf(job));
  }
  // Of a queued job.
  ShapeId ShapeIdOf(const JobRecord& job) const { return shape_of_.at(job.id); }
  // nullopt: no queued job has it.
  std::optional<ShapeId> FindShape(const JobShape& shape) const {
    const auto it = ids_.find(shape);
    return it == ids_.end() ? std::nullopt : std::make_optional(it->second);
  }
  const JobShape& Wants(ShapeId id) const { return shapes_[id].wants; }

 private:
  ShapeId IdOf(JobShape wants);

  std::map<JobShape, ShapeId> ids_;
  std::vector<Shape> shapes_;
  std::vector<ShapeId> unused_;                         // IDs that no queued job has.
  absl::flat_hash_map<std::string, ShapeId> shape_of_;  // By job.
  int64_t last_serial_ = 0;
  std::map<int, Projects, std::greater<int>> ready_;
  int ready_shapes_ = 0;
  std::set<std::pair<absl::Time, std::string>> backing_off_;
  absl::btree_set<std::string> unexplained_;
};

// True for what a scheduling pass itself gives as a reason of a ready job.
bool ExplainsWaiting(StatusReason reason);

}  // namespace p2::scheduler
