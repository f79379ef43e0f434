// What must never break (DESIGN.md 7), as far as the core can break it.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/server/scheduler/simulation.h"

namespace p2::scheduler {
namespace {

// A record without what is set anew by the next process.
JobRecord Durable(JobRecord job) {
  job.progress = {};
  job.ready_mono = job.churn_since_mono = absl::InfinitePast();
  job.may_grow = false;
  job.device_rate = 0;
  job.revision = 0;
  if (job.state == JobState::kQueued) {
    job.reason = StatusReason::kUnspecified;  // Computed by each scheduling pass.
    job.message.clear();
  }
  for (Attempt& attempt : job.attempts) {
    attempt.deadline_mono = absl::InfiniteFuture();
    attempt.create_mono = absl::InfinitePast();
    attempt.culprit.clear();
    attempt.log_tail.clear();
    if (attempt.live()) attempt.end_images_seen = 0;
  }
  return job;
}

WorkerRecord Durable(WorkerRecord worker) {
  worker.last_heartbeat_time = worker.last_seen_mono = absl::InfinitePast();
  worker.session = 0;
  worker.spool_last = 0;
  for (RootRecord& root : worker.roots) root.free_bytes = root.total_bytes = 0;
  return worker;
}

bool RankCanCause(StatusReason reason) {
  switch (reason) {
    case StatusReason::kRankDied:
    case StatusReason::kRankFrozen:
    case StatusReason::kCommunication:
    case StatusReason::kDeviceError:
    case StatusReason::kOutOfMemory:
    case StatusReason::kData:
    case StatusReason::kStorage:
      return true;
    default:
      return false;
  }
}

}  // namespace

void Simulation::CheckMutation(const Mutation& mutation) {
  if (const auto* put = std::get_if<PutJob>(&mutation)) {
    const JobRecord& job = *put->job;
    if (auto ended = ended_.find(job.id); ended != ended_.end() && ended->second != job.state) {
      Violate(absl::StrCat("job ", job.id, " left ", JobStateName(ended->second), " for ", JobStateName(job.state)));
    }
    if (IsTerminal(job.state)) ended_[job.id] = job.state;
    int64_t& epoch = epochs_[job.id];
    if (job.epoch < epoch) Violate(absl::StrCat("epoch of ", job.id, " fell to ", job.epoch));
    if (job.epoch > epoch && !put->durable) Violate(absl::StrCat("epoch of ", job.id, " was not written"));
    epoch = job.epoch;
    for (size_t i = 0; i < job.attempts.size(); ++i) {
      const bool last = i + 1 == job.attempts.size();
      if (job.attempts[i].live() && !last) Violate(absl::StrCat("job ", job.id, " has two live attempts"));
      if (i > 0 && job.attempts[i].epoch <= job.attempts[i - 1].epoch) Violate("epochs do not rise");
      if (last && job.attempts[i].epoch != job.epoch) Violate("the newest attempt is not at the job's epoch");
    }
    auto& [attempt, restarts] = restarts_[job.id];
    if (!job.attempts.empty() && !job.attempts.back().live() && job.attempts.back().number > attempt) {
      attempt = job.attempts.back().number;
      const bool restarted = job.state == JobState::kQueued && job.not_before == now_.wall + job.backoff;
      if (restarted && RankCanCause(job.attempts.back().reason) && ++restarts > job.needs.restart_budget + 3) {
        Violate(absl::StrCat(job.id, " restarts for ever: ", restarts, " times without a checkpoint"));
      }
    }
    if (IsTerminal(job.state) && job.live_attempt() != nullptr)
      Violate(absl::StrCat(job.id, " ended with a live attempt"));
  } else if (const auto* erase = std::get_if<EraseJob>(&mutation)) {
    if (ended_.count(erase->job) == 0) Violate(absl::StrCat("live job ", erase->job, " was deleted"));
  } else if (const auto* put_checkpoint = std::get_if<PutCheckpoint>(&mutation)) {
    const CheckpointRecord& checkpoint = *put_checkpoint->checkpoint;
    const auto& known = stored_.CheckpointsOf(checkpoint.job);
    if (known.find(KeyOf(checkpoint)) == known.end() && checkpoint.epoch != epochs_[checkpoint.job]) {
      Violate(absl::StrCat("commit of ", checkpoint.job, " at stale epoch ", checkpoint.epoch));
    }
    if (known.find(KeyOf(checkpoint)) == known.end()) {
      ++counts_["checkpoint"];
      restarts_[checkpoint.job].second = 0;
    }
    const auto is_other_good = [&](const auto& entry) {
      return entry.second->state == CheckpointState::kCommitted && entry.second->id != checkpoint.id;
    };
    if (checkpoint.state == CheckpointState::kDeleting &&
        std::count_if(known.begin(), known.end(), is_other_good) < 2) {
      Violate(absl::StrCat("fewer than two good checkpoints of ", checkpoint.job, " are left"));
    }
  } else if (const auto* metrics = std::get_if<AppendMetrics>(&mutation)) {
    if (!metrics_.insert({metrics->job, metrics->attempt, metrics->sequence}).second) {
      Violate(absl::StrCat("metrics of ", metrics->job, " twice"));
    }
  } else if (const auto* append = std::get_if<AppendEvent>(&mutation)) {
    if (append->event.revision != ++last_event_revision_) Violate("a gap in the event revisions");
  }
}

void Simulation::CheckAction(const Action& action) {
  if (const auto* start = std::get_if<StartGang>(&action)) {
    const JobPtr job = state_.FindJob(start->job);
    for (const Member& member : job->attempts.back().members) {
      if (agreed_.count({start->job, start->epoch, member.worker}) == 0) {
        Violate(absl::StrCat("part of the gang of ", start->job, " starts before ", member.worker, " is prepared"));
      }
    }
  }
  if (const auto* path = std::get_if<DeletePath>(&action)) {
    const Deletion& deletion = state_.deletions().at({path->root_id, path->path});
    const JobPtr job = state_.FindJob(deletion.job);
    if (job == nullptr || IsTerminal(job->state)) return;
    for (const auto& [key, checkpoint] : state_.CheckpointsOf(deletion.job)) {
      if (checkpoint->id == deletion.checkpoint && checkpoint->state != CheckpointState::kDeleting) {
        Violate(absl::StrCat("a good checkpoint of ", deletion.job, " is deleted"));
      }
    }
    ++counts_["delete"];
  }
}

// No slot is held twice in p2d's own book.
void Simulation::CheckSlots() {
  std::set<std::pair<std::string, std::string>> held;
  auto hold = [&](const std::string& worker, const std::string& slot, const std::string& job) {
    if (!held.insert({worker, slot}).second)
      Violate(absl::StrCat("slot ", worker, "/", slot, " is held twice, also by ", job));
  };
  for (const auto& [id, worker] : state_.workers()) {
    for (const Orphan& orphan : worker->orphans) {
      for (const std::string& slot : orphan.slots) hold(id, slot, orphan.job);
    }
  }
  for (const auto& [id, job] : state_.live_jobs()) {
    const Attempt* attempt = job->live_attempt();
    if (attempt == nullptr) continue;
    for (const RankPlacement& rank : attempt->ranks) {
      if (attempt->FindMember(rank.worker)->state != MemberState::kEnded) hold(rank.worker, rank.slot, id);
    }
  }
}

void Simulation::CompareWithStore() {
  if (state_.live_jobs().size() != stored_.live_jobs().size()) Violate("the store has other live jobs");
  for (const auto& [id, job] : state_.live_jobs()) {
    const JobPtr stored = stored_.FindJob(id);
    if (stored == nullptr || !(Durable(*job) == Durable(*stored)))
      Violate(absl::StrCat("job ", id, " is stored otherwise"));
    const auto& mine = state_.CheckpointsOf(id);
    const auto& theirs = stored_.CheckpointsOf(id);
    const bool same = std::equal(mine.begin(), mine.end(), theirs.begin(), theirs.end(),
                                 [](const auto& a, const auto& b) { return *a.second == *b.second; });
    if (!same) Violate(absl::StrCat("checkpoints of ", id, " are stored otherwise"));
  }
  for (const auto& [id, worker] : state_.workers()) {
    const WorkerPtr stored = stored_.FindWorker(id);
    if (stored == nullptr || !(Durable(*worker) == Durable(*stored)))
      Violate(absl::StrCat("worker ", id, " is stored otherwise"));
  }
  if (state_.deletions().size() != stored_.deletions().size()) Violate("the store has other deletions");
}

}  // namespace p2::scheduler
