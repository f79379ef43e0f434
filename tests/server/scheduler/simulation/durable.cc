#include "tests/server/scheduler/simulation/durable.h"

#include <algorithm>
#include <tuple>

namespace p2::scheduler {
namespace {

// Converts to whatever a member is.
struct Anything {
  template <typename T>
  operator T() const;
};
// The number of members of an aggregate.
template <typename T, typename... Members>
constexpr size_t MembersOf() {
  if constexpr (requires { T{Members{}..., Anything{}}; }) {
    return MembersOf<T, Members..., Anything>();
  } else {
    return sizeof...(Members);
  }
}
// A new member? Say below whether it is stored, then count it.
static_assert(MembersOf<Attempt>() == 26);
static_assert(MembersOf<JobRecord>() == 35);
static_assert(MembersOf<WorkerRecord>() == 24);

auto Stored(const Attempt& it) {
  return std::tie(it.number, it.epoch, it.outcome, it.reason, it.message, it.create_time, it.start_time, it.end_time,
                  it.exit_code, it.start_images_seen, it.resumed_from, it.ranks, it.fingerprint, it.members,
                  it.master_address, it.master_port, it.resume_candidates, it.stop_mode, it.reported_done,
                  it.reported_stopped, it.backfill);
}

auto Stored(const JobRecord& it) {
  return std::tie(it.id, it.state, it.needs, it.details, it.priority, it.request_id, it.create_order, it.create_time,
                  it.start_time, it.end_time, it.update_time, it.not_before, it.backoff, it.epoch, it.attempt_count,
                  it.restarts_used, it.consecutive_failures, it.latest_checkpoint, it.skipped_ranges,
                  it.numerics_device, it.numerics_version, it.stop_cause, it.order_key, it.preemptions, it.churn);
}

auto Stored(const WorkerRecord& it) {
  return std::tie(it.id, it.state, it.cordoned, it.draining, it.cordon_reason, it.slots, it.host, it.data_address,
                  it.version, it.instance, it.protocol_version, it.labels, it.orphans, it.spool_id, it.drain_within,
                  it.failed_jobs, it.device_faults);
}

bool SameAttempt(const Shared<Attempt>& a, const Shared<Attempt>& b) {
  if (a.SharesWith(b)) return true;
  if (Stored(*a) != Stored(*b)) return false;
  return a->live() || a->end_images_seen == b->end_images_seen;
}

}  // namespace

bool DurablyEqual(const JobRecord& a, const JobRecord& b) {
  if (Stored(a) != Stored(b)) return false;
  // Why a queued job waits is found anew by every scheduling pass.
  if (a.state != JobState::kQueued && std::tie(a.reason, a.message) != std::tie(b.reason, b.message)) return false;
  return std::equal(a.attempts.begin(), a.attempts.end(), b.attempts.begin(), b.attempts.end(), SameAttempt);
}

bool DurablyEqual(const WorkerRecord& a, const WorkerRecord& b) {
  if (Stored(a) != Stored(b)) return false;
  return std::equal(a.roots.begin(), a.roots.end(), b.roots.begin(), b.roots.end(),
                    [](const RootRecord& x, const RootRecord& y) {
                      return std::tie(x.name, x.id, x.path) == std::tie(y.name, y.id, y.path);
                    });
}

}  // namespace p2::scheduler
