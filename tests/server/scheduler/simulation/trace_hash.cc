#include "tests/server/scheduler/simulation/trace_hash.h"

#include <type_traits>
#include <variant>

namespace p2::scheduler {
namespace {

uint64_t LoadLittleEndian(const char* bytes, size_t count) {
  uint64_t word = 0;
  for (size_t i = 0; i < count; ++i) word |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  return word;
}

}  // namespace

void TraceHash::Fold(absl::string_view text) {
  Fold(uint64_t{text.size()});
  size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) Fold(LoadLittleEndian(text.data() + at, 8));
  if (at < text.size()) Fold(LoadLittleEndian(text.data() + at, text.size() - at));
}

void TraceHash::Fold(absl::Time time) { Fold(absl::ToUnixNanos(time)); }

void TraceHash::Fold(const Attempt& attempt) {
  FoldAll(attempt.number, attempt.epoch, attempt.outcome, attempt.reason, absl::string_view(attempt.message),
          attempt.stop_mode, attempt.backfill, attempt.reported_done, attempt.reported_stopped, attempt.deadline_mono,
          attempt.start_images_seen, attempt.end_images_seen, absl::string_view(attempt.resumed_from));
  for (const Member& member : attempt.members) FoldAll(absl::string_view(member.worker), member.state, member.missing);
  for (const RankPlacement& rank : attempt.ranks) {
    FoldAll(rank.rank, absl::string_view(rank.worker), absl::string_view(rank.slot));
  }
  for (const std::string& candidate : attempt.resume_candidates) Fold(absl::string_view(candidate));
}

void TraceHash::Fold(const JobRecord& job) {
  FoldAll(absl::string_view(job.id), job.state, job.reason, job.stop_cause, job.priority, job.order_key,
          absl::string_view(job.message), job.epoch, job.attempt_count, job.restarts_used, job.consecutive_failures,
          absl::string_view(job.latest_checkpoint), job.revision, job.not_before, job.ready_mono,
          job.progress.images_seen, job.attempts.size());
  if (!job.attempts.empty()) Fold(*job.attempts.back());
}

void TraceHash::Fold(const WorkerRecord& worker) {
  FoldAll(absl::string_view(worker.id), worker.state, worker.cordoned, worker.draining, worker.session,
          worker.spool_acked, worker.last_seen_mono);
  for (const Orphan& orphan : worker.orphans) {
    FoldAll(absl::string_view(orphan.job), orphan.epoch, orphan.slots.size());
  }
}

void TraceHash::Fold(const Event& event) {
  Fold(event.index());
  std::visit(
      [&](const auto& it) {
        if constexpr (requires { it.info; }) Fold(absl::string_view(it.info.request_id));
        if constexpr (requires { it.id; }) Fold(absl::string_view(it.id));
        if constexpr (requires { it.job; }) Fold(absl::string_view(it.job));
        if constexpr (requires { it.epoch; }) Fold(it.epoch);
        if constexpr (requires { it.worker; }) Fold(absl::string_view(it.worker));
        if constexpr (requires { it.session; }) Fold(it.session);
        if constexpr (requires { it.sequence; }) FoldAll(it.sequence, it.body.index());
        if constexpr (requires { it.hello; }) FoldAll(absl::string_view(it.hello.id), it.hello.session);
        if constexpr (requires { it.full; }) Fold(it.full);
      },
      event);
}

void TraceHash::Fold(const Mutation& mutation) {
  Fold(mutation.index());
  std::visit(
      [&](const auto& it) {
        using M = std::decay_t<decltype(it)>;
        if constexpr (std::is_same_v<M, PutJob>) {
          Fold(it.durable);
          Fold(*it.job);
        } else if constexpr (std::is_same_v<M, PutWorker>) {
          Fold(it.durable);
          Fold(*it.worker);
        } else if constexpr (std::is_same_v<M, PutCheckpoint>) {
          const CheckpointRecord& checkpoint = *it.checkpoint;
          FoldAll(absl::string_view(checkpoint.job), absl::string_view(checkpoint.id), checkpoint.state,
                  checkpoint.epoch, checkpoint.images_seen);
        } else if constexpr (std::is_same_v<M, AppendEvent>) {
          FoldAll(it.event.revision, it.event.time, absl::string_view(it.event.resource),
                  absl::string_view(it.event.reason), absl::string_view(it.event.message));
        } else if constexpr (std::is_same_v<M, PutDeletion>) {
          FoldAll(absl::string_view(it.deletion.path), it.deletion.retry_mono, it.durable);
        } else if constexpr (std::is_same_v<M, PutRequest>) {
          FoldAll(absl::string_view(it.request.request_id), absl::string_view(it.request.resource));
        } else if constexpr (std::is_same_v<M, SetCounters>) {
          FoldAll(it.job_revision, it.event_revision, it.create_order);
        } else if constexpr (std::is_same_v<M, PutShare>) {
          FoldAll(absl::string_view(it.share.id), it.share.devices, it.durable);
        } else if constexpr (std::is_same_v<M, PutQuota>) {
          Fold(absl::string_view(it.quota.id));
        } else if constexpr (std::is_same_v<M, PutReservation>) {
          FoldAll(absl::string_view(it.reservation.job), it.reservation.start_mono, it.reservation.preempting);
          for (const RankPlacement& rank : it.reservation.ranks) {
            FoldAll(absl::string_view(rank.worker), absl::string_view(rank.slot));
          }
        } else {
          if constexpr (requires { it.job; }) Fold(absl::string_view(it.job));
          if constexpr (requires { it.path; }) Fold(absl::string_view(it.path));
          if constexpr (requires { it.worker; }) Fold(absl::string_view(it.worker));
          if constexpr (requires { it.attempt; }) Fold(it.attempt);
          if constexpr (requires { it.sequence; }) Fold(it.sequence);
          if constexpr (requires { it.images_seen; }) Fold(it.images_seen);
          if constexpr (requires { it.sha256; }) Fold(absl::string_view(it.sha256));
          if constexpr (requires { it.full; }) Fold(it.full);
          if constexpr (requires { it.due; }) Fold(it.due);
        }
      },
      mutation);
}

void TraceHash::Fold(const Action& action) {
  Fold(action.index());
  std::visit(
      [&](const auto& it) {
        Fold(absl::string_view(it.worker));
        if constexpr (requires { it.job; }) FoldAll(absl::string_view(it.job), it.epoch);
        if constexpr (requires { it.mode; }) Fold(it.mode);
        if constexpr (requires { it.path; }) Fold(absl::string_view(it.path));
        if constexpr (requires { it.world_size; }) {
          for (const PlacedRank& rank : it.ranks) FoldAll(rank.rank, absl::string_view(rank.slot), rank.local_rank);
        }
        if constexpr (requires { it.resume_candidates; }) {
          for (const std::string& candidate : it.resume_candidates) Fold(absl::string_view(candidate));
        }
      },
      action);
}

void TraceHash::Add(const Event& event, const absl::StatusOr<StepResult>& result, const Moment& now) {
  FoldAll(now.wall, now.mono);
  Fold(event);
  if (!result.ok()) return Fold(result.status().code());
  for (const Mutation& mutation : result->mutations) Fold(mutation);
  for (const Action& action : result->actions) Fold(action);
  FoldAll(absl::string_view(result->answer), absl::string_view(result->refused));
}

}  // namespace p2::scheduler
