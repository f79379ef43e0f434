// What must never break, one function each: RELIABILITY.md 3 for those with a number.
#include <algorithm>
#include <map>
#include <tuple>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/server/scheduler/simulation/checker.h"

namespace p2::scheduler {
namespace {

// What the person asked for, less what people may change later.
bool SamePayload(const JobRecord& a, const JobRecord& b) {
  return a.details->spec_sha256 == b.details->spec_sha256 && a.needs == b.needs &&
         a.details->preset == b.details->preset && a.details->task == b.details->task &&
         a.details->owner == b.details->owner && a.details->project == b.details->project &&
         a.details->queue == b.details->queue && a.request_id == b.request_id && a.create_order == b.create_order &&
         a.create_time == b.create_time && a.details->lineage == b.details->lineage;
}

const Attempt* FindAttempt(const JobRecord& job, int number) {
  const auto it = std::find_if(job.attempts.begin(), job.attempts.end(),
                               [&](const Shared<Attempt>& attempt) { return attempt->number == number; });
  return it == job.attempts.end() ? nullptr : &**it;
}

// Whether the budget pays for it, after `failures` in a row, this one included (server/scheduler/exit_class.h).
bool BudgetPays(StatusReason reason, int failures) {
  switch (reason) {
    case StatusReason::kRankDied:
    case StatusReason::kOutOfMemory:
    case StatusReason::kData:
    case StatusReason::kStorage:
      return true;
    case StatusReason::kCommunication:
    case StatusReason::kDeviceError:
    case StatusReason::kRankFrozen:
      return failures > 3;
    default:
      return false;
  }
}

// Of a predicted start: heartbeats and ticks come every second, and a round of messages takes its time.
constexpr absl::Duration kPromiseSlack = absl::Seconds(4);

// For certain, whatever their owners have had: by priority, and in the line of one owner.
bool ComesBefore(const JobRecord& a, const JobRecord& b) {
  if (a.priority != b.priority) return a.priority > b.priority;
  return a.details->project == b.details->project && a.details->owner == b.details->owner &&
         std::tie(a.order_key, a.create_order) < std::tie(b.order_key, b.create_order);
}

bool HoldsSlots(const Attempt& attempt, const Member& member) {
  return attempt.live() && member.state != MemberState::kEnded;
}

// Which members hold slots, and of which attempt, is the same.
bool SameLeases(const Attempt* a, const Attempt* b) {
  if (a == nullptr || b == nullptr) return a == b;
  return a->epoch == b->epoch &&
         std::equal(a->members.begin(), a->members.end(), b->members.begin(), b->members.end(),
                    [](const Member& x, const Member& y) {
                      return (x.state == MemberState::kEnded) == (y.state == MemberState::kEnded);
                    });
}

}  // namespace

// I1: every acknowledged submit is readable for ever, with an equal payload.
void Checker::I1SubmitsStay(const JobBook& book, const JobRecord& job) {
  if (book.last == nullptr) return;
  const auto* resume = std::get_if<ResumeJob>(event_);
  if (resume != nullptr && resume->job == job.id && resume->devices.has_value()) return;  // Asked for: taken anew.
  const auto* update = std::get_if<UpdateJob>(event_);
  const bool changed =
      (update == nullptr || update->job != job.id) &&
      (job.details->labels != book.last->details->labels || job.details->note != book.last->details->note ||
       (job.priority != book.last->priority && resume == nullptr));
  if (changed || !SamePayload(*book.created, job)) {
    Violate("I1", absl::StrCat("job ", job.id, " is no longer what was submitted"));
  }
}

void Checker::I1AnsweredSubmitIsWritten(const CreateJob& command, const StepResult& result) {
  bool spec = false, job = false;
  for (const Mutation& mutation : result.mutations) {
    if (const auto* put = std::get_if<PutSpec>(&mutation)) spec |= put->sha256 == command.spec_sha256;
    if (const auto* put = std::get_if<PutJob>(&mutation); put != nullptr && put->job->id == command.id) {
      job = put->durable && put->job->details->spec_sha256 == command.spec_sha256 && put->job->needs == command.needs &&
            put->job->priority == command.priority && put->job->details->owner == command.owner &&
            put->job->details->project == command.project && put->job->details->queue == command.queue &&
            put->job->details->labels == command.labels && put->job->details->note == command.note;
    }
  }
  const std::string name = absl::StrCat("jobs/", command.id);
  const std::vector<absl::string_view> answer = absl::StrSplit(result.answer, ',');
  if (!spec || !job || std::find(answer.begin(), answer.end(), name) == answer.end()) {
    Violate("I1", absl::StrCat("the submit of ", command.id, " was answered with \"", result.answer,
                               "\", but not written as it was sent"));
  }
}

bool Checker::AskedToDelete(const std::string& job) const {
  if (const auto* command = std::get_if<DeleteJob>(event_)) return command->job == job;
  const auto* several = std::get_if<ControlJobs>(event_);
  return several != nullptr && several->verb == ControlJobs::Verb::kDelete &&
         std::count(several->jobs.begin(), several->jobs.end(), job) > 0;
}

void Checker::I1OnlyEndedJobsGoOnRequest(const EraseJob& erase) {
  const JobBook* book = FindBook(erase.job);
  if (!AskedToDelete(erase.job)) Violate("I1", absl::StrCat(erase.job, " was erased unasked"));
  if (book == nullptr || !IsTerminal(book->last->state)) {
    Violate("I1", absl::StrCat("live job ", erase.job, " was deleted"));
  }
}

// I2: one job a key: a repeated request gets the first answer and makes nothing new.
void Checker::I2OneJobAKey(const CommandInfo& info, const StepResult& result) {
  if (info.request_id.empty()) return;
  if (const auto known = requests_.find(info.request_id); known != requests_.end()) {
    if (known->second.payload != info.payload_sha256) {
      Violate("I2", absl::StrCat("request ", info.request_id, " was taken again with another payload"));
    } else if (known->second.answer != result.answer) {
      Violate("I2", absl::StrCat("request ", info.request_id, " made ", known->second.answer, " and ", result.answer));
    }
    if (std::any_of(result.mutations.begin(), result.mutations.end(), IsDurable)) {
      Violate("I2", absl::StrCat("the repeated request ", info.request_id, " changed something"));
    }
    return;
  }
  requests_[info.request_id] = {info.payload_sha256, result.answer};
  const bool kept = std::any_of(result.mutations.begin(), result.mutations.end(), [&](const Mutation& mutation) {
    const auto* put = std::get_if<PutRequest>(&mutation);
    return put != nullptr && put->request.request_id == info.request_id && put->request.resource == result.answer &&
           put->request.payload_sha256 == info.payload_sha256;
  });
  if (!kept) Violate("I2", absl::StrCat("request ", info.request_id, " is not kept"));
}

// I3: a job's epochs strictly increase, and each is used by one assignment, written before it is dispatched.
void Checker::I3EpochsRise(const JobBook& book, const PutJob& put) {
  const JobRecord& job = *put.job;
  const int64_t before = book.last == nullptr ? 0 : book.last->epoch;
  if (job.epoch < before) Violate("I3", absl::StrCat("epoch of ", job.id, " fell from ", before, " to ", job.epoch));
  if (job.epoch > before && !put.durable) Violate("I3", absl::StrCat("epoch of ", job.id, " was raised, not written"));
  if (job.attempts.empty()) return;
  const Attempt& newest = *job.attempts.back();
  if (newest.epoch != job.epoch) Violate("I3", absl::StrCat("newest attempt of ", job.id, " is not at its epoch"));
  const size_t count = job.attempts.size();
  if (count > 1 && job.attempts[count - 2]->epoch >= newest.epoch) {
    Violate("I3", absl::StrCat("attempt ", newest.number, " of ", job.id, " repeats epoch ", newest.epoch));
  }
  if (count > 1 && job.attempts[count - 2]->live()) Violate("I3", absl::StrCat(job.id, " has two live attempts"));
  if (book.last == nullptr || book.last->attempts.empty()) return;
  const Attempt& known = *book.last->attempts.back();
  if (known.epoch == newest.epoch && (known.number != newest.number || known.ranks != newest.ranks)) {
    Violate("I3", absl::StrCat("epoch ", newest.epoch, " of ", job.id, " was assigned twice"));
  }
}

void Checker::I3DispatchIsWritten(const JobBook* book, absl::string_view job, int64_t epoch) {
  if (book == nullptr || book->written == nullptr || book->written->epoch != epoch) {
    Violate("I3", absl::StrCat("epoch ", epoch, " of ", job, " is dispatched, but written is ",
                               book == nullptr || book->written == nullptr ? -1 : book->written->epoch));
  }
}

void Checker::I3OneAssignmentAnEpoch(const JobBook& book, const Prepare& prepare) {
  const Attempt* attempt = book.last->live_attempt();
  bool same = attempt != nullptr && attempt->epoch == prepare.epoch;
  size_t here = 0;
  for (size_t i = 0; same && i < attempt->ranks.size(); ++i) {
    const RankPlacement& rank = attempt->ranks[i];
    if (rank.worker != prepare.worker) continue;
    same = here < prepare.ranks.size() && prepare.ranks[here].rank == rank.rank &&
           prepare.ranks[here].slot == rank.slot && prepare.ranks[here].local_rank == static_cast<int>(here);
    ++here;
  }
  if (!same || here != prepare.ranks.size()) {
    Violate("I3", absl::StrCat("Prepare of ", prepare.job, " on ", prepare.worker, " is not what epoch ", prepare.epoch,
                               " was assigned"));
  }
}

// I4: effects (checkpoint commit, metrics, artifact, a report's terminal state) only at the highest granted epoch.
void Checker::I4EffectsAtTheHighestEpoch(const Mutation& mutation) {
  const auto granted = [&](absl::string_view job) {
    const JobBook* book = FindBook(job);
    return book == nullptr ? int64_t{-1} : book->last->epoch;
  };
  const auto demand = [&](absl::string_view what, absl::string_view job) {
    if (report_ == nullptr || report_->job != job || report_->epoch != granted(job)) {
      Violate("I4", absl::StrCat(what, " of ", job, " at epoch ", report_ == nullptr ? -1 : report_->epoch,
                                 ", granted is ", granted(job)));
    }
  };
  if (const auto* put = std::get_if<PutCheckpoint>(&mutation)) {
    const CheckpointRecord& checkpoint = *put->checkpoint;
    const JobBook* book = FindBook(checkpoint.job);
    const bool known = book != nullptr && std::any_of(book->checkpoints.begin(), book->checkpoints.end(),
                                                      [&](const auto& old) { return old->id == checkpoint.id; });
    if (known) return;
    demand("a checkpoint", checkpoint.job);
    if (checkpoint.epoch != granted(checkpoint.job)) {
      Violate("I4",
              absl::StrCat("checkpoint ", checkpoint.id, " of ", checkpoint.job, " says epoch ", checkpoint.epoch));
    }
  } else if (const auto* metrics = std::get_if<AppendMetrics>(&mutation)) {
    demand("metrics", metrics->job);
  } else if (const auto* artifact = std::get_if<PutArtifact>(&mutation)) {
    demand("an artifact", artifact->artifact.job);
  } else if (const auto* ended = std::get_if<PutJob>(&mutation)) {
    if (report_ == nullptr || !IsTerminal(ended->job->state) || report_->job != ended->job->id) return;
    const JobBook* book = FindBook(ended->job->id);
    if (book == nullptr || IsTerminal(book->last->state)) return;
    // A worker that came back without the attempt: its part is over with the end of its spool, whatever the last record
    // says.
    const Attempt* attempt = book->last->live_attempt();
    const Member* member = attempt == nullptr ? nullptr : attempt->FindMember(report_->worker);
    if (member == nullptr || !member->missing) demand("the end", ended->job->id);
  }
}

// I5: never two live leases on one slot: what gangs hold, and what ranks that were given up may still hold.
void Checker::I5OneLeaseASlot(const StepResult& result) {
  // What is let go in this step may be taken in it: first all of the one, then the other.
  std::vector<const JobRecord*> jobs;
  std::vector<const WorkerRecord*> workers;
  for (const Mutation& mutation : result.mutations) {
    if (const auto* put = std::get_if<PutJob>(&mutation)) {
      const JobBook* book = FindBook(put->job->id);
      const Attempt* before = book == nullptr || book->last == nullptr ? nullptr : book->last->live_attempt();
      if (SameLeases(before, put->job->live_attempt())) continue;
      CountDevices(book == nullptr ? nullptr : book->last.get(), put->job.get());
      jobs.push_back(put->job.get());
      if (before == nullptr) continue;
      for (const Member& member : before->members) Release(member.worker, put->job->id, before->epoch, false);
    } else if (const auto* worker = std::get_if<PutWorker>(&mutation)) {
      WorkerBook& book = workers_[worker->worker->id];
      if (book.orphans == worker->worker->orphans) continue;
      workers.push_back(worker->worker.get());
      for (const Orphan& orphan : book.orphans) Release(worker->worker->id, orphan.job, orphan.epoch, true);
      book.orphans = worker->worker->orphans;
    }
  }
  for (const WorkerRecord* worker : workers) {
    for (const Orphan& orphan : worker->orphans) {
      for (const std::string& slot : orphan.slots) Lease(worker->id, slot, orphan.job, orphan.epoch, true);
    }
  }
  for (const JobRecord* job : jobs) {
    const Attempt* attempt = job->live_attempt();
    if (attempt == nullptr) continue;
    for (const RankPlacement& rank : attempt->ranks) {
      if (HoldsSlots(*attempt, *attempt->FindMember(rank.worker))) {
        Lease(rank.worker, rank.slot, job->id, attempt->epoch, false);
      }
    }
  }
}

// I6: terminal states absorb, and hold no attempt.
void Checker::I6EndedStaysEnded(const JobBook& book, const JobRecord& job) {
  if (book.last != nullptr && IsTerminal(book.last->state) && book.last->state != job.state) {
    Violate("I6",
            absl::StrCat("job ", job.id, " left ", JobStateName(book.last->state), " for ", JobStateName(job.state)));
  }
  if (IsTerminal(job.state) && job.live_attempt() != nullptr) {
    Violate("I6", absl::StrCat(job.id, " is ", JobStateName(job.state), " with a live attempt"));
  }
}

// I7: once a cancel is acknowledged, the job is never dispatched again.
void Checker::I7NothingIsSentToCancelled(const JobBook& book, absl::string_view job) {
  if (book.cancelled) Violate("I7", absl::StrCat("cancelled job ", job, " is dispatched"));
}

// I9: an attempt resumes from the newest good checkpoint, then from the one before it, and so on.
void Checker::I9ResumesFromTheNewestGood(const JobBook& book, const StartGang& start) {
  std::vector<absl::string_view> good;
  for (auto it = book.checkpoints.rbegin(); it != book.checkpoints.rend(); ++it) {
    if ((*it)->state == CheckpointState::kCommitted) good.push_back((*it)->id);
  }
  if (!std::equal(good.begin(), good.end(), start.resume_candidates.begin(), start.resume_candidates.end())) {
    Violate("I9", absl::StrCat("attempt ", start.attempt, " of ", start.job, " is to resume from [",
                               absl::StrJoin(start.resume_candidates, ", "), "]; good are [", absl::StrJoin(good, ", "),
                               "]"));
  }
}

// I10: the restart budget is never exceeded, and a job ends of it no earlier.
void Checker::I10BudgetHolds(JobBook& book, const JobRecord& job) {
  const Attempt* before = book.last == nullptr ? nullptr : book.last->live_attempt();
  if (before == nullptr) return;
  const Attempt* ended = FindAttempt(job, before->number);
  if (ended == nullptr || ended->live()) return;
  const bool spent = job.state == JobState::kFailed && job.reason == StatusReason::kRestartBudgetSpent;
  const bool restarts = job.state == JobState::kQueued && job.not_before != absl::InfinitePast();
  if (!spent && !restarts) return;
  if (BudgetPays(ended->reason, ++book.failures)) ++book.spent;
  if (restarts && book.spent > job.needs->restart_budget) {
    Violate("I10", absl::StrCat(job.id, " restarts after ", book.spent, " counted failures without progress; its ",
                                "budget is ", job.needs->restart_budget));
  }
  if (spent && book.spent <= job.needs->restart_budget) {
    Violate("I10", absl::StrCat(job.id, " failed of its budget of ", job.needs->restart_budget, " after ", book.spent));
  }
}

// A gang starts when every member holds its slots, or not at all.
void Checker::GangStartsWhole(const JobBook& book, const StartGang& start) {
  const Attempt* attempt = book.last->live_attempt();
  if (attempt == nullptr || attempt->epoch != start.epoch) {
    return Violate("gang", absl::StrCat("Start of ", start.job, " at epoch ", start.epoch, ", which is not live"));
  }
  for (const Member& member : attempt->members) {
    const bool agreed = book.prepared_epoch == start.epoch &&
                        std::find(book.prepared.begin(), book.prepared.end(), member.worker) != book.prepared.end();
    if (!agreed) {
      Violate("gang",
              absl::StrCat("a part of the gang of ", start.job, " starts before ", member.worker, " is prepared"));
    }
  }
}

// Metrics appear exactly once and in order.
void Checker::MetricsOnceAndInOrder(const AppendMetrics& metrics) {
  JobBook* book = FindBook(metrics.job);
  if (book == nullptr) return;  // I4.
  auto& [attempt, sequence] = book->metrics;
  if (metrics.attempt > attempt) {
    attempt = metrics.attempt;
    sequence = 0;
  }
  if (metrics.attempt != attempt || metrics.sequence != sequence + 1) {
    Violate("metrics", absl::StrCat("metrics ", metrics.sequence, " of attempt ", metrics.attempt, " of ", metrics.job,
                                    " follow ", sequence, " of attempt ", attempt));
  }
  sequence = metrics.sequence;
}

// The audit log has no gap (what I11 of RELIABILITY.md needs of the core).
void Checker::RevisionsWithoutGaps(const EventRecord& event) {
  if (event.revision != ++event_revision_) {
    Violate("revisions", absl::StrCat("event revision ", event.revision, " follows ", event_revision_ - 1));
    event_revision_ = event.revision;
  }
}

// A worker's spool is taken record by record.
void Checker::SpoolTakenInOrder(const SetSpoolAck& ack) {
  WorkerBook& book = workers_[ack.worker];
  if (report_ == nullptr || report_->worker != ack.worker || report_->sequence != ack.sequence ||
      ack.sequence != book.spool_acked + 1) {
    Violate("spool",
            absl::StrCat("spool of ", ack.worker, " is taken up to ", ack.sequence, " after ", book.spool_acked));
  }
  book.spool_acked = ack.sequence;
}

// A checkpoint that is pinned, that an attempt may be loading, or that is among the two newest good ones is kept. A
// person may have others deleted, but never the only good one of a live job.
void Checker::GoodCheckpointsAreKept(const JobBook& book, const CheckpointRecord& deleting) {
  if (IsTerminal(book.last->state) && AskedToDelete(deleting.job)) return;
  const auto* asked = std::get_if<DeleteCheckpoint>(event_);
  const bool by_name = asked != nullptr && asked->job == deleting.job && asked->checkpoint == deleting.id;
  int newer = 0, others = 0;
  for (const CheckpointPtr& other : book.checkpoints) {
    if (other->state != CheckpointState::kCommitted) continue;
    ++others;
    newer += KeyOf(*other) > KeyOf(deleting);
  }
  if (by_name ? others < 1 && !IsTerminal(book.last->state) : newer < 2) {
    Violate("kept", absl::StrCat("checkpoint ", deleting.id, " of ", deleting.job, " is deleted with ", newer,
                                 " newer good ones"));
  }
  if (deleting.pinned) Violate("kept", absl::StrCat("pinned checkpoint ", deleting.id, " is deleted"));
  const Attempt* attempt = book.last->live_attempt();
  if (attempt != nullptr &&
      std::count(attempt->resume_candidates.begin(), attempt->resume_candidates.end(), deleting.id) > 0) {
    Violate("kept", absl::StrCat("checkpoint ", deleting.id, " of ", deleting.job, " is deleted while attempt ",
                                 attempt->number, " may load it"));
  }
}

// Every queued job can say why it waits, once a pass has seen it.
void Checker::WaitingHasAReason(const JobRecord& job) {
  if (job.state == JobState::kQueued && job.message.empty()) {
    Violate("reason", absl::StrCat(job.id, " waits without a reason"));
  }
}

// I12: what is reserved for a job is given to those behind it only as backfill, which yields. Where there is a quota, a
// job that has to borrow comes behind those that have not.
void Checker::I12ReservedIsKept(const StepResult& result) {
  for (const Mutation& mutation : result.mutations) {
    if (const auto* put = std::get_if<PutReservation>(&mutation))
      reservations_[put->reservation.job] = put->reservation;
    if (const auto* erase = std::get_if<EraseReservation>(&mutation)) reservations_.erase(erase->job);
  }
  if (!std::holds_alternative<SchedulePass>(*event_)) return;
  const auto has_quota = [&](const JobRecord& job) {
    return quotas_.contains(absl::StrCat("users/", job.details->owner)) ||
           quotas_.contains(absl::StrCat("projects/", job.details->project));
  };
  for (const Mutation& mutation : result.mutations) {
    const auto* put = std::get_if<PutJob>(&mutation);
    if (put == nullptr || put->job->state != JobState::kStarting) continue;
    const JobRecord& job = *put->job;
    const JobBook* book = FindBook(job.id);
    if (book == nullptr || book->last->epoch == job.epoch || job.attempts.back()->backfill) continue;
    for (const auto& [id, reservation] : reservations_) {
      const JobBook* other = FindBook(id);
      if (id == job.id || other == nullptr || !ComesBefore(*other->last, job) || has_quota(*other->last)) continue;
      for (const RankPlacement& rank : reservation.ranks) {
        for (const RankPlacement& taken : job.attempts.back()->ranks) {
          if (taken.worker != rank.worker || taken.slot != rank.slot) continue;
          Violate("I12", absl::StrCat(job.id, " takes ", rank.worker, "/", rank.slot, ", which is reserved for ", id));
        }
      }
    }
  }
}

// I12, in a world where nothing unforeseen happens: the reserved head starts no later than was predicted when it was
// reserved, and nothing that starts meanwhile moves that time.
void Checker::I12StartsAsPredicted(const JobRecord& job) {
  const auto promise = promised_.find(job.id);
  if (promise == promised_.end()) return;
  if (IsTerminal(job.state)) {
    promised_.erase(promise);
    return;
  }
  if (now_.mono > promise->second + kPromiseSlack) {
    Violate("I12", absl::StrCat(job.id, " was to start by ", absl::FormatDuration(promise->second - absl::UnixEpoch()),
                                ", and it is ", absl::FormatDuration(now_.mono - absl::UnixEpoch())));
    promised_.erase(promise);
    return;
  }
  if (job.state != JobState::kStarting) return;
  ++promises_kept_;
  promised_.erase(promise);
}

// Only a job of higher priority preempts, or, where there are quotas, one of the same priority that is within its own.
void Checker::OnlyLowerIsPreempted(const StepResult& result) {
  if (!std::holds_alternative<SchedulePass>(*event_)) return;
  for (const Mutation& mutation : result.mutations) {
    const auto* put = std::get_if<PutJob>(&mutation);
    if (put == nullptr || put->job->stop_cause != StopCause::kPreempt) continue;
    const JobBook* book = FindBook(put->job->id);
    if (book == nullptr || book->last->stop_cause == StopCause::kPreempt) continue;
    const bool in_turn = std::any_of(result.mutations.begin(), result.mutations.end(), [&](const Mutation& other) {
      const auto* reserve = std::get_if<PutReservation>(&other);
      if (reserve == nullptr || !reserve->reservation.preempting) return false;
      const JobBook* by = FindBook(reserve->reservation.job);
      return by != nullptr && (by->last->priority > put->job->priority ||
                               (by->last->priority == put->job->priority && !quotas_.empty()));
    });
    if (!in_turn) Violate("preempt", absl::StrCat(put->job->id, " is preempted, but by none of higher priority"));
    if (!put->job->needs->preemptible)
      Violate("preempt", absl::StrCat(put->job->id, " is not preemptible, but preempted"));
  }
}

// What a pass starts keeps its owner and project within quota and what they may borrow.
void Checker::QuotaHolds(const StepResult& result) {
  for (const Mutation& mutation : result.mutations) {
    if (const auto* put = std::get_if<PutQuota>(&mutation)) quotas_[put->quota.id] = put->quota;
    if (const auto* erase = std::get_if<EraseQuota>(&mutation)) quotas_.erase(erase->id);
  }
  if (quotas_.empty() || !std::holds_alternative<SchedulePass>(*event_)) return;
  for (const Mutation& mutation : result.mutations) {
    const auto* put = std::get_if<PutJob>(&mutation);
    if (put == nullptr || put->job->state != JobState::kStarting) continue;
    const JobBook* book = FindBook(put->job->id);
    if (book == nullptr || book->last->epoch == put->job->epoch) continue;
    for (const std::string& account :
         {absl::StrCat("users/", put->job->details->owner), absl::StrCat("projects/", put->job->details->project)}) {
      const auto quota = quotas_.find(account);
      if (quota == quotas_.end() || !quota->second.devices.has_value() || quota->second.borrow < 0) continue;
      const int most = *quota->second.devices + quota->second.borrow;
      if (held_by_[account] > most) {
        Violate("quota", absl::StrCat(put->job->id, " starts, and ", account, " holds ", held_by_[account],
                                      " devices of ", most));
      }
    }
  }
}

int Checker::HeldBy(const JobRecord& job) {
  const Attempt* attempt = job.live_attempt();
  int held = 0;
  if (attempt == nullptr) return held;
  for (const RankPlacement& rank : attempt->ranks) held += HoldsSlots(*attempt, *attempt->FindMember(rank.worker));
  return held;
}

void Checker::CountDevices(const JobRecord* before, const JobRecord* after) {
  const int more = HeldBy(*after) - (before == nullptr ? 0 : HeldBy(*before));
  held_by_[absl::StrCat("users/", after->details->owner)] += more;
  held_by_[absl::StrCat("projects/", after->details->project)] += more;
}

// What is known of jobs that hold devices is what their records and checkpoints say.
void Checker::HoldersAreOfNow(const ClusterState& state) {
  size_t holders = 0;
  state.live_jobs().ForEach([&](const JobPtr& job) {
    if (job->live_attempt() == nullptr) return;
    ++holders;
    Holder expected = Holder::Of(*job, state.CheckpointsOf(job->id));
    expected.job = job;
    const auto holder = state.holders().find(job->id);
    if (holder == state.holders().end() || !(holder->second == expected))
      Violate("holders", absl::StrCat("what is known of ", job->id, " is not what it is"));
  });
  if (holders != state.holders().size()) Violate("holders", "jobs are counted that hold nothing");
}

// Jobs of one owner, priority and shape wait for the same, and are told so.
void Checker::ALineWaitsForOneReason(const ClusterState& state) {
  for (const auto& [priority, projects] : state.queue().ready()) {
    for (const auto& [project, owners] : projects) {
      for (const auto& [owner, lines] : owners) {
        for (const auto& [shape, line] : lines) {
          const JobRecord& first = *state.FindJob(line.begin()->job);
          for (const LinePlace& place : line) {
            const JobRecord& job = *state.FindJob(place.job);
            if (job.reason == first.reason && job.message == first.message) continue;
            Violate("reason", absl::StrCat(job.id, " waits since it ", job.message, ", but ", first.id,
                                           " of its line since it ", first.message));
          }
        }
      }
    }
  }
}

// Usage of devices is computed from live leases: shares and quotas count what gangs hold, no more and no less.
void Checker::CountsComeFromLeases(const ClusterState& state, const FakeStore& store) {
  std::map<std::string, int> accounts, shares, queued;
  for (const JobPtr& job : state.live_jobs().Sorted()) {
    const int held = HeldBy(*job);
    accounts[absl::StrCat("users/", job->details->owner)] += held;
    accounts[absl::StrCat("projects/", job->details->project)] += held;
    shares[job->details->project] += held;
    shares[absl::StrCat(job->details->project, "/", job->details->owner)] += held;
    const int waits = job->state == JobState::kQueued || job->state == JobState::kPaused;
    queued[absl::StrCat("users/", job->details->owner)] += waits;
    queued[absl::StrCat("projects/", job->details->project)] += waits;
  }
  for (const auto& [account, held] : accounts) {
    if (state.HeldBy(account) != held || held_by_[account] != held || state.QueuedBy(account) != queued[account]) {
      Violate("counts", absl::StrCat(account, " holds ", held, " devices and queues ", queued[account],
                                     " jobs; counted are ", state.HeldBy(account), " and ", state.QueuedBy(account)));
    }
  }
  for (const auto& [id, share] : state.shares()) {
    if (share.devices != shares[id]) {
      Violate("counts", absl::StrCat("share ", id, " counts ", share.devices, " devices of ", shares[id]));
    }
  }
  if (state.quotas() != store.quotas()) Violate("store", "the store holds other quotas");
  if (state.queues() != store.queues()) Violate("store", "the store holds other queues");
}

}  // namespace p2::scheduler
