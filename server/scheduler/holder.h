// A job that holds devices, as a pass over all of them sees it: without a look into its record.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>

#include "absl/time/time.h"
#include "server/scheduler/types.h"

namespace p2::scheduler {

// Of one job by (images seen, epoch, ID): oldest first.
using Checkpoints = std::map<std::tuple<int64_t, int64_t, std::string>, CheckpointPtr>;

struct Holder {
  JobPtr job;  // As ClusterState has it.
  int priority = 0;
  int devices = 0;
  bool stopping = false;     // On its way out already.
  bool preemptible = false;  // It runs or starts, and saves a checkpoint when it is asked to stop.
  int churn = 0;             // As JobRecord.
  absl::Time churn_since_mono;
  int64_t unsaved = 0;  // Images seen since the newest good checkpoint.
  double device_rate = 0;
  bool operator==(const Holder&) const = default;

  // All but `job`. REQUIRES: a live attempt. `checkpoints`: the job's.
  static Holder Of(const JobRecord& job, const Checkpoints& checkpoints);

  // Images that stopping it would lose or cost: those since its last checkpoint, on each device, and its restart.
  double Price(absl::Duration restart_cost) const;
};

}  // namespace p2::scheduler
