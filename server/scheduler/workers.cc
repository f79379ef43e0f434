#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/error_reason.h"
#include "server/scheduler/decisions.h"
#include "server/scheduler/device_faults.h"
#include "server/scheduler/placement.h"
#include "server/scheduler/shares.h"

namespace p2::scheduler {
namespace {

// After a restart of p2d revisions begin above any that a watcher may have seen but that no batch had written.
constexpr int64_t kRevisionsSkipped = int64_t{1} << 24;

const RunningAttempt* FindRunning(const std::vector<RunningAttempt>& running, absl::string_view job, int64_t epoch) {
  const auto it = std::find_if(running.begin(), running.end(), [&](const RunningAttempt& attempt) {
    return attempt.job == job && attempt.epoch == epoch;
  });
  return it == running.end() ? nullptr : &*it;
}

// True if p2d wants this attempt on this worker.
bool IsCurrent(const Draft& draft, const RunningAttempt& running, absl::string_view worker) {
  const JobRecord* job = draft.Job(running.job);
  const Attempt* attempt = job == nullptr ? nullptr : job->live_attempt();
  const Member* member = attempt == nullptr || attempt->epoch != running.epoch ? nullptr : attempt->FindMember(worker);
  return member != nullptr && member->state != MemberState::kEnded;
}

// Slots that an older attempt of a known job was given on the worker; empty if nothing is known of it.
std::vector<std::string> SlotsOf(const Draft& draft, const RunningAttempt& running, absl::string_view worker) {
  std::vector<std::string> slots;
  const JobRecord* job = draft.Job(running.job);
  if (job == nullptr) return slots;
  for (const Shared<Attempt>& attempt : job->attempts) {
    if (attempt->epoch != running.epoch) continue;
    for (const RankPlacement& rank : attempt->ranks) {
      if (rank.worker == worker) slots.push_back(rank.slot);
    }
  }
  return slots;
}

// What runs there without p2d's will: earlier orphans that still run, and whatever else is not current. What is only
// prepared is let go at once when it is told to stop, so it holds nothing.
std::vector<Orphan> OrphansOf(const Draft& draft, const WorkerConnected& event, const WorkerRecord* known) {
  std::vector<Orphan> orphans;
  for (const RunningAttempt& running : event.running) {
    if (running.prepared || IsCurrent(draft, running, event.hello.id)) continue;
    Orphan orphan{running.job, running.epoch, SlotsOf(draft, running, event.hello.id)};
    if (known != nullptr) {
      for (const Orphan& old : known->orphans) {
        if (old.job == running.job && old.epoch == running.epoch) orphan.slots = old.slots;
      }
    }
    orphans.push_back(std::move(orphan));
  }
  return orphans;
}

void StopOrphans(Draft& draft, const WorkerRecord& worker) {
  for (const Orphan& orphan : worker.orphans) {
    draft.Act(StopAttempt{worker.id, orphan.job, orphan.epoch, StopMode::kKill});
  }
}

// Jobs that waited for the worker run on.
void StopWaitingFor(Draft& draft, absl::string_view worker) {
  std::vector<std::string> waiting;
  for (const JobRecord* job : draft.JobsOn(worker)) {
    if (job->state == JobState::kRunning && job->reason == StatusReason::kWorkerLost) waiting.push_back(job->id);
  }
  for (const std::string& id : waiting) {
    JobRecord& job = draft.EditJob(id);
    job.reason = StatusReason::kUnspecified;
    job.message.clear();
  }
}

std::string DescribeOffer(const WorkerRecord& worker) {
  std::map<std::string, int> by_kind;
  for (const SlotRecord& slot : worker.slots) ++by_kind[slot.kind];
  return absl::StrCat("slots: ", absl::StrJoin(by_kind, ", ", absl::PairFormatter(" ")),
                      "; roots: ", absl::StrJoin(worker.roots, ", ", [](std::string* out, const RootRecord& root) {
                        out->append(root.name);
                      }));
}

bool SameRoots(const std::vector<RootRecord>& a, const std::vector<RootRecord>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const RootRecord& x, const RootRecord& y) { return x.name == y.name && x.id == y.id; });
}

void TakeProgress(Draft& draft, absl::string_view worker, const AttemptProgress& progress) {
  const JobRecord* known = draft.Job(progress.job);
  const Attempt* attempt = known == nullptr ? nullptr : known->live_attempt();
  if (attempt == nullptr || attempt->epoch != progress.epoch || attempt->ranks.front().worker != worker) return;
  if (attempt->reported_done || attempt->reported_stopped) return;
  JobRecord& job = draft.TouchJob(progress.job);
  job.progress.images_seen = job.EditLiveAttempt()->end_images_seen = progress.images_seen;
  job.progress.phase = progress.phase;
  if (progress.images_per_second > 0) SetRate(job, progress.images_per_second);
}

// How often the driver has reported it, as far as p2d has heard.
int64_t TimesHeard(const WorkerRecord& worker, const DeviceFault& fault) {
  for (const DeviceFault& heard : worker.device_faults) {
    if (heard.slot == fault.slot && heard.xid == fault.xid) return heard.count;
  }
  return 0;
}

// What its driver has reported since the last report cordons the node. An uncordon forgives what was heard until then:
// while the node is cordoned, more of the same is counted and makes no event.
void TakeFaults(Draft& draft, absl::string_view id, const std::vector<DeviceFault>& faults) {
  std::vector<std::string> fresh;
  for (const DeviceFault& fault : faults) {
    const WorkerRecord& worker = *draft.Worker(id);
    const bool here = std::any_of(worker.slots.begin(), worker.slots.end(),
                                  [&fault](const SlotRecord& slot) { return slot.id == fault.slot; });
    const int64_t heard = TimesHeard(worker, fault);
    if (fault.count <= heard || !here || IsApplicationFault(fault.xid)) continue;
    if (heard == 0 || !worker.cordoned) fresh.push_back(Describe(fault));
    std::vector<DeviceFault>& all = draft.EditWorker(id).device_faults;
    std::erase_if(all, [&fault](const DeviceFault& old) { return old.slot == fault.slot && old.xid == fault.xid; });
    all.push_back(fault);
  }
  if (fresh.empty()) return;
  const std::string what = absl::StrJoin(fresh, ", ");
  draft.Event(WorkerName(id), "DEVICE_FAULT", what, WorkerName(id));
  CordonSuspect(draft, id, what);
}

}  // namespace

void CordonSuspect(Draft& draft, absl::string_view id, absl::string_view why) {
  if (draft.Worker(id)->cordoned) return;
  WorkerRecord& worker = draft.EditWorker(id);
  worker.cordoned = true;
  worker.cordon_reason =
      absl::StrCat("cordoned by p2d: ", why, "; look at the node, then `p2ctl node uncordon ", id, "`");
  draft.Event(WorkerName(id), "WORKER_CORDONED", worker.cordon_reason);
  draft.RequestPass();
}

absl::Status Handle(Draft& draft, const WorkerConnected& event) {
  const std::string& id = event.hello.id;
  const WorkerRecord* known = draft.Worker(id);
  const bool restarted = known == nullptr || known->instance != event.hello.instance;
  if (known != nullptr && known->session != 0 && restarted &&
      draft.now().mono - known->last_seen_mono < draft.options().suspect_after) {
    return Error(ErrorReason::kWorkerNameTaken, absl::StrCat("a worker named \"", id, "\" is connected from ",
                                                             known->host, "; give this one another name with --name"));
  }
  WorkerRecord worker = event.hello;
  worker.state = WorkerState::kReady;
  worker.orphans = OrphansOf(draft, event, known);
  worker.last_seen_mono = draft.now().mono;
  worker.last_heartbeat_time = draft.now().wall;
  if (known != nullptr) {
    worker.cordoned = known->cordoned;
    worker.draining = known->draining;
    worker.cordon_reason = known->cordon_reason;
    worker.failed_jobs = known->failed_jobs;
    if (!restarted) worker.device_faults = known->device_faults;
    worker.drain_within = known->drain_within;
    worker.drain_by_mono = known->drain_by_mono;
    const uint64_t taken = known->spool_id == worker.spool_id ? known->spool_acked : 0;
    if (taken > 0 && taken < worker.spool_acked) {
      draft.Event(
          WorkerName(id), "SPOOL_GAP",
          absl::StrCat("records ", taken + 1, " to ", worker.spool_acked,
                       " of its spool were acknowledged after the backup that this p2d was restored from: lost"),
          WorkerName(id));
    }
    worker.spool_acked = std::max(taken, worker.spool_acked);
  }
  if (restarted || known->state != WorkerState::kReady) {
    draft.Event(WorkerName(id), "WORKER_READY", DescribeOffer(worker), WorkerName(id));
  }
  const bool caught_up = worker.spool_acked >= worker.spool_last;
  for (const RunningAttempt& running : event.running) {
    if (!IsCurrent(draft, running, id)) draft.Act(StopAttempt{id, running.job, running.epoch, StopMode::kKill});
  }
  draft.AddWorker(std::move(worker));
  StopWaitingFor(draft, id);

  std::vector<std::string> ids;
  for (const JobRecord* job : draft.JobsOn(id)) ids.push_back(job->id);
  for (const std::string& job_id : ids) {
    const Attempt* attempt = draft.Job(job_id)->live_attempt();
    if (attempt == nullptr) continue;
    const RunningAttempt* running = FindRunning(event.running, job_id, attempt->epoch);
    if (running != nullptr && !running->prepared && attempt->ranks.front().worker == id) {
      JobRecord& job = draft.TouchJob(job_id);
      job.progress.images_seen = job.EditLiveAttempt()->end_images_seen = running->images_seen;
    }
    RemindMember(draft, job_id, id, running != nullptr, running != nullptr && running->prepared);
  }
  if (caught_up) EndMissing(draft, id);
  AskForDeletions(draft, event.hello);
  draft.RequestPass(PassNeed::kIfDevicesSuit);
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const WorkerDisconnected& event) {
  const WorkerRecord* worker = draft.Worker(event.worker);
  if (worker == nullptr || worker->session != event.session) return absl::OkStatus();
  draft.TouchWorker(event.worker).session = 0;
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const Heartbeat& event) {
  const WorkerRecord* known = draft.Worker(event.worker);
  if (known == nullptr || known->session != event.session) return absl::OkStatus();
  if (known->state != WorkerState::kReady) {
    draft.Event(WorkerName(event.worker), "WORKER_READY", "heard of it again", WorkerName(event.worker));
    draft.EditWorker(event.worker).state = WorkerState::kReady;
    StopOrphans(draft, *draft.Worker(event.worker));
    StopWaitingFor(draft, event.worker);
    draft.RequestPass();
  }
  if (!SameRoots(known->roots, event.roots)) {
    draft.EditWorker(event.worker);
    draft.RequestPass();
  }
  WorkerRecord& worker = draft.TouchWorker(event.worker);
  worker.roots = event.roots;
  worker.last_seen_mono = draft.now().mono;
  worker.last_heartbeat_time = draft.now().wall;
  for (const AttemptProgress& progress : event.progress) TakeProgress(draft, event.worker, progress);
  TakeFaults(draft, event.worker, event.device_faults);
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const Recovered&) {
  draft.SkipRevisions(kRevisionsSkipped);
  for (const auto& [id, base] : draft.base().workers()) {
    WorkerRecord& worker = draft.TouchWorker(id);
    worker.session = 0;
    worker.last_seen_mono = draft.now().mono;
    worker.drain_by_mono = draft.now().mono + worker.drain_within;
  }
  std::map<std::string, int> held;  // By share.
  for (const JobRecord* live : draft.LiveJobs()) {
    JobRecord& job = draft.TouchJob(live->id);
    for (const std::string& share :
         {ProjectShare(job.details->project), OwnerShare(job.details->project, job.details->owner)}) {
      if (const int devices = HeldDevices(job); devices > 0) held[share] += devices;
    }
    job.churn_since_mono = draft.now().mono;
    if (job.state == JobState::kQueued && ExplainsWaiting(job.reason)) {
      // As it was when the record was written; the first pass tells all. Its backoff had passed before that.
      job.reason = StatusReason::kUnspecified;
      job.message.clear();
    } else if (const absl::Duration left = job.not_before - draft.now().wall; left > absl::ZeroDuration()) {
      // The wall clock may have jumped while p2d was away: it may shorten the wait, never prolong it.
      job.ready_mono = draft.now().mono + std::min(left, job.backoff);
    }
    if (job.state == JobState::kStarting)
      job.EditLiveAttempt()->deadline_mono = draft.now().mono + draft.options().gang_timeout;
  }
  // Time while p2d was away counts for nobody, and lets nothing decay: clocks of two processes cannot be compared.
  for (const auto& [id, share] : draft.base().shares()) held.emplace(id, 0);
  for (const auto& [id, devices] : held) {
    ShareRecord share = draft.base().ShareOf(id);
    share.as_of_mono = draft.now().mono;
    share.devices = devices;
    draft.Mutate(PutShare{std::move(share), /*durable=*/false});
  }
  draft.RequestPass();
  return absl::OkStatus();
}

void ForgiveSilence(Draft& draft, absl::Duration stalled) {
  for (const auto& [id, base] : draft.base().workers()) {
    WorkerRecord& worker = draft.TouchWorker(id);
    worker.last_seen_mono = std::min(draft.now().mono, worker.last_seen_mono + stalled);
  }
  for (const std::string& id : draft.base().starting_jobs())
    draft.TouchJob(id).EditLiveAttempt()->deadline_mono += stalled;
}

void WatchDrains(Draft& draft) {
  std::vector<std::string> late;
  for (const auto& [id, base] : draft.base().workers()) {
    if (!base->draining || base->drain_by_mono > draft.now().mono) continue;
    for (const JobRecord* job : draft.JobsOn(id)) {
      const Attempt& attempt = *job->live_attempt();
      if (attempt.stop_mode != StopMode::kKill && attempt.FindMember(id)->state != MemberState::kEnded)
        late.push_back(job->id);
    }
  }
  for (const std::string& id : late) StopGang(draft, id, StopMode::kKill);
}

void WatchSilence(Draft& draft) {
  for (const auto& [id, base] : draft.base().workers()) {
    const absl::Duration silence = draft.now().mono - draft.Worker(id)->last_seen_mono;
    const bool lost = silence > draft.options().lost_after;
    const WorkerState next = lost                                      ? WorkerState::kLost
                             : silence > draft.options().suspect_after ? WorkerState::kSuspect
                                                                       : base->state;
    if (next <= base->state) continue;
    draft.EditWorker(id).state = next;
    draft.Event(WorkerName(id), lost ? "WORKER_LOST" : "WORKER_SUSPECT",
                absl::StrCat("silent for ", absl::FormatDuration(absl::Floor(silence, absl::Milliseconds(100)))));
    draft.RequestPass();
  }
}

}  // namespace p2::scheduler
