// The decisions of p2d, without I/O, clock, thread, log or random source.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/scheduler/action.h"
#include "server/scheduler/cluster_state.h"
#include "server/scheduler/event.h"

namespace p2::scheduler {

struct StepOptions {
  // A worker silent for longer gets no new gangs.
  absl::Duration suspect_after = absl::Seconds(10);
  // Then its jobs go elsewhere, if there are devices. REQUIRES: >= suspect_after.
  absl::Duration lost_after = absl::Seconds(15);
  // From Prepare until all ranks have started; then the gang counts as not formed.
  absl::Duration gang_timeout = absl::Seconds(30);
  // First wait after a gang was not formed; doubles up to the job's own backoff_max.
  absl::Duration gang_backoff = absl::Seconds(2);
  // Before a failed deletion is tried again.
  absl::Duration delete_retry = absl::Seconds(60);
  // Device time counts half as much after so long.
  absl::Duration share_half_life = absl::Hours(24);
  // Devices held now weigh as much as if they had been held for so long.
  absl::Duration share_horizon = absl::Minutes(10);
  // What the restart of an attempt costs, in time of its devices: part of the price of preempting it.
  absl::Duration restart_cost = absl::Seconds(60);
  // A job is preempted at most so often within the window.
  int churn_limit = 3;
  absl::Duration churn_window = absl::Hours(1);
  // A job that would have to yield runs on reserved devices only if it could do so for so long.
  absl::Duration backfill_least = absl::Minutes(5);
  // A worker on which the last attempts of so many different jobs broke is cordoned. 0: never.
  int cordon_after_jobs = 2;
};

struct StepResult {
  std::vector<Mutation> mutations;  // Persist all of these atomically first,
  std::vector<Action> actions;      // then perform these, in this order.
  // What a command made or changed: `jobs/{job}`, `workers/{worker}`, `datasets/{dataset}`; of several the names with
  // commas between them; empty for other events.
  std::string answer;
  // Why a worker's report was taken without effect (stale epoch, unknown job); empty if it had one.
  std::string refused;
};

// Advances the cluster by one event. Pure: reads no clock, store, network or log; equal arguments give equal results in
// equal order. The caller applies the mutations to `state` (ClusterState::Apply), and once it has stepped the events at
// hand it steps SchedulePass for as long as state.pass_due(): events change what is there, a pass gives it away.
// Actions are idempotent: Step(state, Recovered{}, now) and WorkerConnected re-issue those still needed. Errors
// (nothing changes then): NOT_FOUND (job, worker), FAILED_PRECONDITION (the job's state does not allow the event),
// ALREADY_EXISTS (job, dataset, request_id with another payload, worker name in use), RESOURCE_EXHAUSTED (disk full).
absl::StatusOr<StepResult> Step(const ClusterState& state, const Event& event, const Moment& now,
                                const StepOptions& options = {});

}  // namespace p2::scheduler
