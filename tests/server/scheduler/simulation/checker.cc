#include "tests/server/scheduler/simulation/checker.h"

#include <algorithm>
#include <memory>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tests/server/scheduler/simulation/durable.h"

namespace p2::scheduler {

void Checker::Violate(absl::string_view invariant, std::string what) {
  violations_.push_back({std::string(invariant), std::move(what)});
}

Checker::JobBook* Checker::FindBook(absl::string_view job) {
  const auto it = jobs_.find(job);
  return it == jobs_.end() || it->second.last == nullptr ? nullptr : &it->second;
}

void Checker::Observe(const Event& event, const absl::StatusOr<StepResult>& result, const Moment& now) {
  if (!result.ok()) return;
  event_ = &event;
  report_ = std::get_if<SpoolReport>(&event);
  now_ = now;
  if (std::holds_alternative<Recovered>(event)) {
    for (auto& [id, book] : jobs_) book.last = book.written;  // A new process knows what was written.
    reservations_.clear();
  }
  if (const auto* reply = std::get_if<PrepareReply>(&event); reply != nullptr && reply->ok) {
    JobBook* book = FindBook(reply->job);
    if (book != nullptr && reply->epoch >= book->prepared_epoch) {
      if (reply->epoch > book->prepared_epoch) book->prepared.clear();
      book->prepared_epoch = reply->epoch;
      book->prepared.push_back(reply->worker);
    }
  }
  std::visit(
      [&](const auto& it) {
        if constexpr (requires { it.info; }) I2OneJobAKey(it.info, *result);
      },
      event);
  TakeCommand(event, *result);

  I5OneLeaseASlot(*result);
  I12ReservedIsKept(*result);
  OnlyLowerIsPreempted(*result);
  QuotaHolds(*result);
  for (const Mutation& mutation : result->mutations) I4EffectsAtTheHighestEpoch(mutation);  // As granted before it.
  for (const Mutation& mutation : result->mutations) Take(mutation);
  for (const CheckpointPtr& checkpoint : collected_) GoodCheckpointsAreKept(*FindBook(checkpoint->job), *checkpoint);
  collected_.clear();
  for (const Action& action : result->actions) TakeAction(action);
}

void Checker::TakeCommand(const Event& event, const StepResult& result) {
  std::visit(
      [&](const auto& it) {
        if constexpr (requires { it.info; }) {
          if (it.info.previous.has_value()) return;
        }
        using E = std::decay_t<decltype(it)>;
        if constexpr (std::is_same_v<E, CreateJob>) {
          I1AnsweredSubmitIsWritten(it, result);
        } else if constexpr (std::is_same_v<E, CreateJobs>) {
          for (const CreateJob& job : it.jobs) I1AnsweredSubmitIsWritten(job, result);
        } else if constexpr (std::is_same_v<E, StopJob> || std::is_same_v<E, KillJob>) {
          jobs_[it.job].cancelled = true;
        } else if constexpr (std::is_same_v<E, ControlJobs>) {
          if (it.verb != ControlJobs::Verb::kStop && it.verb != ControlJobs::Verb::kKill) return;
          for (absl::string_view name : absl::StrSplit(result.answer, ',', absl::SkipEmpty())) {
            jobs_[absl::StripPrefix(name, "jobs/")].cancelled = true;
          }
        }
      },
      event);
}

void Checker::Take(const Mutation& mutation) {
  if (const auto* put = std::get_if<PutJob>(&mutation)) {
    TakeJob(*put);
  } else if (const auto* checkpoint = std::get_if<PutCheckpoint>(&mutation)) {
    TakeCheckpoint(checkpoint->checkpoint);
  } else if (const auto* append = std::get_if<AppendEvent>(&mutation)) {
    RevisionsWithoutGaps(append->event);
  } else if (const auto* metrics = std::get_if<AppendMetrics>(&mutation)) {
    MetricsOnceAndInOrder(*metrics);
  } else if (const auto* ack = std::get_if<SetSpoolAck>(&mutation)) {
    SpoolTakenInOrder(*ack);
  } else if (const auto* worker = std::get_if<PutWorker>(&mutation)) {
    WorkerBook& book = workers_[worker->worker->id];
    if (book.spool_id != worker->worker->spool_id) {
      book.spool_id = worker->worker->spool_id;
      book.spool_acked = 0;
    }
  } else if (const auto* reserve = std::get_if<PutReservation>(&mutation)) {
    const Reservation& reservation = reserve->reservation;
    if (calm_ && reservation.start_mono != absl::InfiniteFuture()) {
      promised_.emplace(reservation.job, reservation.start_mono);  // The first one stands.
    }
  } else if (const auto* erase = std::get_if<EraseJob>(&mutation)) {
    I1OnlyEndedJobsGoOnRequest(*erase);
    jobs_.erase(erase->job);
  } else if (const auto* gone = std::get_if<EraseCheckpoint>(&mutation)) {
    if (JobBook* book = FindBook(gone->job); book != nullptr) {
      std::erase_if(book->checkpoints, [&](const CheckpointPtr& it) { return it->id == gone->checkpoint; });
    }
  }
}

void Checker::TakeJob(const PutJob& put) {
  JobBook& book = jobs_[put.job->id];
  if (book.last == nullptr) book.created = put.job;
  I1SubmitsStay(book, *put.job);
  I3EpochsRise(book, put);
  I6EndedStaysEnded(book, *put.job);
  I10BudgetHolds(book, *put.job);
  I12StartsAsPredicted(*put.job);
  const auto* resumed = std::get_if<ResumeJob>(event_);
  if (resumed != nullptr && resumed->job == put.job->id) book.created = put.job;
  book.last = put.job;
  if (put.durable) book.written = put.job;
}

void Checker::TakeCheckpoint(const CheckpointPtr& checkpoint) {
  JobBook* book = FindBook(checkpoint->job);
  if (book == nullptr) return;  // I4 said so, or its job was erased before.
  auto& all = book->checkpoints;
  const auto at = std::lower_bound(all.begin(), all.end(), checkpoint,
                                   [](const auto& a, const auto& b) { return KeyOf(*a) < KeyOf(*b); });
  if (checkpoint->state == CheckpointState::kDeleting) collected_.push_back(checkpoint);
  if (at != all.end() && (*at)->id == checkpoint->id) {
    *at = checkpoint;
    return;
  }
  const bool newest_good = std::none_of(all.begin(), all.end(), [&](const CheckpointPtr& other) {
    return other->state == CheckpointState::kCommitted && other->images_seen >= checkpoint->images_seen;
  });
  if (newest_good) book->failures = book->spent = 0;
  all.insert(at, checkpoint);
}

void Checker::TakeAction(const Action& action) {
  if (const auto* prepare = std::get_if<Prepare>(&action)) {
    const JobBook* book = FindBook(prepare->job);
    I3DispatchIsWritten(book, prepare->job, prepare->epoch);
    if (book == nullptr) return;
    I3OneAssignmentAnEpoch(*book, *prepare);
    I7NothingIsSentToCancelled(*book, prepare->job);
  } else if (const auto* start = std::get_if<StartGang>(&action)) {
    const JobBook* book = FindBook(start->job);
    I3DispatchIsWritten(book, start->job, start->epoch);
    if (book == nullptr) return;
    I7NothingIsSentToCancelled(*book, start->job);
    I9ResumesFromTheNewestGood(*book, *start);
    GangStartsWhole(*book, *start);
  }
}

void Checker::Release(absl::string_view worker, absl::string_view job, int64_t epoch, bool orphan) {
  const auto book = workers_.find(worker);
  if (book == workers_.end()) return;
  std::erase_if(book->second.leases, [&](const SlotLease& lease) {
    return lease.job == job && lease.epoch == epoch && lease.orphan == orphan;
  });
}

void Checker::Lease(absl::string_view worker, absl::string_view slot, absl::string_view job, int64_t epoch,
                    bool orphan) {
  WorkerBook& book = workers_[worker];
  for (const SlotLease& lease : book.leases) {
    if (lease.slot != slot) continue;
    Violate("I5", absl::StrCat("slot ", worker, "/", slot, " is held by ", lease.job, " at epoch ", lease.epoch,
                               " and by ", job, " at epoch ", epoch));
  }
  book.leases.push_back({std::string(slot), std::string(job), epoch, orphan});
}

void Checker::CheckWhole(const ClusterState& state, const FakeStore& store) {
  CheckSlotsWhole(state);
  const std::vector<JobPtr> live = state.live_jobs().Sorted();
  for (const JobPtr& job : live) CheckJobWhole(*job, state, store);
  for (const auto& [id, worker] : state.workers()) CheckWorkerWhole(*worker, state, store);
  CountsComeFromLeases(state, store);
  HoldersAreOfNow(state);
  if (!state.pass_due()) ALineWaitsForOneReason(state);
  for (const JobPtr& job : live) I12StartsAsPredicted(*job);
  if (state.live_jobs().size() != store.live_jobs()) Violate("store", "the store holds other live jobs");
  if (state.workers().size() != store.workers()) Violate("store", "the store holds other workers");
  if (state.deletions().size() != store.deletions()) Violate("store", "the store holds other deletions");
}

// From scratch: each slot is held once, and the book of leases says the same.
void Checker::CheckSlotsWhole(const ClusterState& state) {
  absl::flat_hash_map<std::string, std::vector<std::pair<absl::string_view, absl::string_view>>> held;  // Slot, job.
  for (const auto& [id, worker] : state.workers()) {
    for (const Orphan& orphan : worker->orphans) {
      for (const std::string& slot : orphan.slots) held[id].emplace_back(slot, orphan.job);
    }
  }
  state.live_jobs().ForEach([&](const JobPtr& job) {
    const Attempt* attempt = job->live_attempt();
    if (attempt == nullptr) return;
    for (const RankPlacement& rank : attempt->ranks) {
      if (attempt->FindMember(rank.worker)->state != MemberState::kEnded)
        held[rank.worker].emplace_back(rank.slot, job->id);
    }
  });
  for (const auto& [id, worker] : state.workers()) {
    auto& here = held[id];
    std::sort(here.begin(), here.end());
    const auto twice =
        std::adjacent_find(here.begin(), here.end(), [](const auto& a, const auto& b) { return a.first == b.first; });
    if (twice != here.end()) {
      Violate("I5", absl::StrCat("slot ", id, "/", twice->first, " is held by ", twice->second, " and ",
                                 std::next(twice)->second));
    }
    std::vector<std::pair<absl::string_view, absl::string_view>> book;
    for (const SlotLease& lease : workers_[id].leases) book.emplace_back(lease.slot, lease.job);
    std::sort(book.begin(), book.end());
    if (book != here) Violate("I5", absl::StrCat("the leases on ", id, " are not those that were given"));
  }
}

void Checker::CheckJobWhole(const JobRecord& job, const ClusterState& state, const FakeStore& store) {
  const JobPtr stored = store.FindJob(job.id);
  if (stored == nullptr) return Violate("I1", absl::StrCat("job ", job.id, " is not stored"));
  if (stored.get() != &job && !DurablyEqual(job, *stored)) {
    Violate("store", absl::StrCat("job ", job.id, " is stored otherwise"));
  }
  const JobBook* book = FindBook(job.id);
  if (book == nullptr || book->last.get() != &job) return Violate("I1", absl::StrCat("nobody submitted ", job.id));
  if (!state.pass_due()) WaitingHasAReason(job);
  for (size_t i = 1; i < job.attempts.size(); ++i) {
    if (job.attempts[i]->epoch <= job.attempts[i - 1]->epoch)
      Violate("I3", absl::StrCat("epochs of ", job.id, " fall"));
  }
  if (const Attempt* attempt = job.live_attempt(); attempt != nullptr) {
    for (const Member& member : attempt->members) {
      if (state.JobsOn(member.worker).count(job.id) == 0) {
        Violate("store", absl::StrCat(job.id, " is not among the jobs on ", member.worker));
      }
    }
  }
  const auto& mine = state.CheckpointsOf(job.id);
  const std::vector<CheckpointPtr> theirs = store.CheckpointsOf(job.id);
  const bool same = std::equal(mine.begin(), mine.end(), theirs.begin(), theirs.end(),
                               [](const auto& a, const auto& b) { return a.second == b || *a.second == *b; });
  if (!same) Violate("store", absl::StrCat("checkpoints of ", job.id, " are stored otherwise"));
}

void Checker::CheckWorkerWhole(const WorkerRecord& worker, const ClusterState& state, const FakeStore& store) {
  const WorkerPtr stored = store.FindWorker(worker.id);
  if (stored == nullptr || (stored.get() != &worker && !DurablyEqual(worker, *stored)) ||
      store.SpoolAcked(worker.id) != worker.spool_acked) {
    Violate("store", absl::StrCat("worker ", worker.id, " is stored otherwise"));
  }
  for (const std::string& id : state.JobsOn(worker.id)) {
    const JobPtr job = state.FindJob(id);
    const Attempt* attempt = job == nullptr ? nullptr : job->live_attempt();
    if (attempt == nullptr || attempt->FindMember(worker.id) == nullptr) {
      Violate("store", absl::StrCat(id, " is among the jobs on ", worker.id));
    }
  }
}

}  // namespace p2::scheduler
