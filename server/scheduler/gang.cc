#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/scheduler/decisions.h"

namespace p2::scheduler {
namespace {

constexpr size_t kAttemptsKept = 100;

Prepare PrepareFor(const JobRecord& job, const Attempt& attempt, absl::string_view worker) {
  Prepare prepare;
  prepare.worker = std::string(worker);
  prepare.job = job.id;
  prepare.epoch = attempt.epoch;
  prepare.attempt = attempt.number;
  prepare.world_size = static_cast<int>(attempt.ranks.size());
  for (const RankPlacement& rank : attempt.ranks) {
    if (rank.worker == worker) {
      prepare.ranks.push_back({rank.rank, rank.slot, static_cast<int>(prepare.ranks.size())});
    }
  }
  prepare.dataset_root = job.needs->dataset_root;
  prepare.dataset_root_id = job.needs->dataset_root_id;
  prepare.dataset_path = job.needs->dataset_path;
  prepare.dataset_fingerprint = job.needs->dataset_fingerprint;
  prepare.checkpoint_root = job.needs->checkpoint_root;
  prepare.checkpoint_root_id = job.needs->checkpoint_root_id;
  if (job.ReadsSource()) {
    prepare.source_root = job.needs->source.root;
    prepare.source_root_id = job.needs->source.root_id;
    prepare.source_path = job.needs->source.path;
  }
  prepare.writes_output = job.needs->writes_output;
  return prepare;
}

StartGang StartFor(const JobRecord& job, const Attempt& attempt, absl::string_view worker) {
  StartGang start;
  start.worker = std::string(worker);
  start.job = job.id;
  start.epoch = attempt.epoch;
  start.attempt = attempt.number;
  start.master_address = attempt.master_address;
  start.master_port = attempt.master_port;
  start.spec_sha256 = job.details->spec_sha256;
  start.task = job.details->task;
  start.dataset_fingerprint = job.needs->dataset_fingerprint;
  start.resume_candidates = attempt.resume_candidates;
  start.source_is_run = job.ReadsSource() && job.needs->source.is_run;
  start.skipped_ranges = job.skipped_ranges;
  return start;
}

bool AllMembersAre(const Attempt& attempt, MemberState state) {
  return std::all_of(attempt.members.begin(), attempt.members.end(),
                     [&](const Member& member) { return member.state == state; });
}

bool HasProcesses(const Member& member) {
  return member.state == MemberState::kStarting || member.state == MemberState::kStarted;
}

}  // namespace

void StartAttempt(Draft& draft, absl::string_view id, std::vector<RankPlacement> ranks, bool backfill) {
  JobRecord& job = draft.EditJob(id);
  Attempt attempt;
  attempt.number = ++job.attempt_count;
  attempt.epoch = ++job.epoch;
  attempt.create_time = draft.now().wall;
  attempt.create_mono = draft.now().mono;
  attempt.backfill = backfill;
  attempt.deadline_mono = draft.now().mono + draft.options().gang_timeout;
  for (const RankPlacement& rank : ranks) {
    if (attempt.FindMember(rank.worker) == nullptr) attempt.members.push_back({rank.worker});
  }
  attempt.ranks = std::move(ranks);
  job.progress = Progress{};
  for (const CheckpointPtr& checkpoint : ResumeCandidates(draft, id)) {
    if (attempt.resume_candidates.empty()) job.progress.images_seen = checkpoint->images_seen;
    attempt.resume_candidates.push_back(checkpoint->id);
  }
  if (attempt.resume_candidates.empty() && job.needs->source.is_run)
    job.progress.images_seen = job.needs->source.images_seen;
  attempt.start_images_seen = attempt.end_images_seen = job.progress.images_seen;
  job.attempts.push_back(attempt);
  if (job.attempts.size() > kAttemptsKept) job.attempts.erase(job.attempts.begin());
  Move(draft, id, JobState::kStarting, StatusReason::kGangForming,
       absl::StrCat("attempt ", attempt.number, " forms a gang of ", attempt.ranks.size(), " on ",
                    absl::StrJoin(attempt.members, ", ",
                                  [](std::string* out, const Member& member) { out->append(member.worker); })));
  for (const Member& member : attempt.members) draft.Act(PrepareFor(job, attempt, member.worker));
}

absl::Status Handle(Draft& draft, const PrepareReply& event) {
  const JobRecord* known = draft.Job(event.job);
  const Attempt* live = known == nullptr ? nullptr : known->live_attempt();
  const Member* asked = live == nullptr || live->epoch != event.epoch ? nullptr : live->FindMember(event.worker);
  if (asked == nullptr) {
    draft.set_refused(absl::StrCat("PrepareReply for job ", event.job, " at stale epoch ", event.epoch));
    return absl::OkStatus();
  }
  if (asked->state != MemberState::kPreparing) return absl::OkStatus();  // Asked twice, answered twice.
  if (!event.ok) {
    FailGang(draft, event.job, event.worker,
             event.source_missing ? StatusReason::kStorage : StatusReason::kGangNotFormed, event.message);
    return absl::OkStatus();
  }
  JobRecord& job = draft.EditJob(event.job);
  Attempt& attempt = *job.EditLiveAttempt();
  attempt.FindMember(event.worker)->state = MemberState::kPrepared;
  if (attempt.ranks.front().worker == event.worker) {
    attempt.master_address = event.master_address;
    attempt.master_port = event.master_port;
    if (event.master_address.empty() || event.master_port <= 0) {
      FailGang(draft, event.job, event.worker, StatusReason::kGangNotFormed, "it gave no address for rank 0");
      return absl::OkStatus();
    }
  }
  if (!AllMembersAre(attempt, MemberState::kPrepared)) return absl::OkStatus();
  for (Member& member : attempt.members) {
    member.state = MemberState::kStarting;
    draft.Act(StartFor(job, attempt, member.worker));
  }
  return absl::OkStatus();
}

void MemberStarted(Draft& draft, const SpoolReport& report) {
  JobRecord& job = draft.EditJob(report.job);
  Attempt& attempt = *job.EditLiveAttempt();
  Member& member = *attempt.FindMember(report.worker);
  if (member.state != MemberState::kStarting) return;
  member.state = MemberState::kStarted;
  if (!AllMembersAre(attempt, MemberState::kStarted)) return;
  attempt.start_time = draft.now().wall;
  attempt.deadline_mono = absl::InfiniteFuture();
  if (job.state == JobState::kStarting) Move(draft, report.job, JobState::kRunning, StatusReason::kUnspecified, "");
}

void RemindMember(Draft& draft, absl::string_view id, absl::string_view worker, bool listed, bool prepared) {
  JobRecord& job = draft.EditJob(id);
  Attempt& attempt = *job.EditLiveAttempt();
  Member& member = *attempt.FindMember(worker);
  if (member.state == MemberState::kEnded) return;
  switch (member.state) {
    case MemberState::kPreparing:
      draft.Act(PrepareFor(job, attempt, worker));
      return;
    case MemberState::kPrepared:
      if (!listed) {
        FailGang(draft, id, worker, StatusReason::kGangNotFormed, "it no longer holds the slots that it had prepared");
      }
      return;
    default:
      break;
  }
  // It was told to start. Listed only prepared: Start was lost. Not listed: it has ended, unless the spool says more.
  const bool start_lost = member.state == MemberState::kStarting && listed && prepared;
  member.missing = !listed || (prepared && !start_lost);
  if (attempt.stop_mode != StopMode::kNone) {
    draft.Act(StopAttempt{std::string(worker), job.id, attempt.epoch, attempt.stop_mode});
  } else if (start_lost) {
    draft.Act(StartFor(job, attempt, worker));
  }
}

void StopGang(Draft& draft, absl::string_view id, StopMode mode) {
  JobRecord& job = draft.EditJob(id);
  if (Attempt* attempt = job.EditLiveAttempt(); attempt != nullptr) {
    if (mode > attempt->stop_mode) {
      attempt->stop_mode = mode;
      for (Member& member : attempt->members) {
        if (member.state == MemberState::kEnded) continue;
        const bool processes = HasProcesses(member);
        // The order of the stream makes its slots free for whatever is prepared there next.
        if (!processes) member.state = MemberState::kEnded;
        draft.Act(StopAttempt{member.worker, job.id, attempt->epoch, processes ? mode : StopMode::kKill});
      }
    }
    AbandonLostMembers(draft, id);
    Settle(draft, id);
    return;
  }
  if (job.state == JobState::kCancelling) {
    Move(draft, id, JobState::kCancelled, job.reason, job.message);
  }
}

void FailGang(Draft& draft, absl::string_view id, absl::string_view worker, StatusReason reason, std::string message) {
  JobRecord& job = draft.EditJob(id);
  Blame(*job.EditLiveAttempt(), reason, absl::StrCat("worker ", worker, ": ", message));
  StopGang(draft, id, StopMode::kKill);
}

void WatchGangs(Draft& draft) {
  std::vector<std::pair<std::string, std::string>> late;  // Job, worker.
  for (const std::string& id : draft.base().starting_jobs()) {
    const JobRecord* job = draft.Job(id);
    const Attempt* attempt = job->live_attempt();
    if (job->state != JobState::kStarting || attempt->deadline_mono > draft.now().mono) continue;
    if (attempt->stop_mode != StopMode::kNone) continue;
    const auto first = std::find_if(attempt->members.begin(), attempt->members.end(), [](const Member& member) {
      return member.state != MemberState::kPrepared && member.state != MemberState::kStarted;
    });
    late.emplace_back(job->id, first == attempt->members.end() ? attempt->members.front().worker : first->worker);
  }
  for (const auto& [job, worker] : late) {
    FailGang(draft, job, worker, StatusReason::kGangNotFormed,
             absl::StrCat("its ranks had not started after ", absl::FormatDuration(draft.options().gang_timeout)));
  }
}

}  // namespace p2::scheduler
