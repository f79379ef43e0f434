#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/error_reason.h"
#include "server/scheduler/decisions.h"

namespace p2::scheduler {
namespace {

// From now on the job runs only on such devices, under that version.
void PinNumerics(const Draft& draft, JobRecord& job, const RankPlacement& rank) {
  const WorkerRecord& worker = *draft.Worker(rank.worker);
  job.numerics_version = worker.version;
  for (const SlotRecord& slot : worker.slots) {
    if (slot.id == rank.slot) job.numerics_device = slot.device_name;
  }
}

// What a task has drawn so far is its progress, as a checkpoint is a training's; and it goes on only on devices of the
// kind that drew it.
void TaskStarted(const Draft& draft, JobRecord& job, const Attempt& attempt, int64_t images_seen) {
  if (images_seen > attempt.start_images_seen) job.restarts_used = job.consecutive_failures = 0;
  if (job.needs->images_total == 0 || !job.needs->kind.empty()) return;
  for (const SlotRecord& slot : draft.Worker(attempt.ranks.front().worker)->slots) {
    if (slot.id == attempt.ranks.front().slot) job.needs.Edit().kind = slot.kind;
  }
}

void SaidStarted(Draft& draft, const SpoolReport& report, const TrainerStarted& started) {
  JobRecord& job = draft.EditJob(report.job);
  Attempt& attempt = *job.EditLiveAttempt();
  if (!attempt.resume_candidates.empty() && !started.resumed_from.empty() &&
      started.resumed_from != attempt.resume_candidates.front()) {
    draft.Event(JobName(report.job), "CHECKPOINT_FALLBACK",
                absl::StrCat("resumed from ", started.resumed_from, ", not from ", attempt.resume_candidates.front()),
                WorkerName(report.worker));
  }
  attempt.resumed_from = started.resumed_from;
  attempt.fingerprint = started.fingerprint;
  attempt.resume_candidates.clear();
  if (job.needs->bitwise && job.numerics_version.empty()) PinNumerics(draft, job, attempt.ranks.front());
  if (!job.details->task.empty()) TaskStarted(draft, job, attempt, started.images_seen);
  attempt.start_images_seen = attempt.end_images_seen = job.progress.images_seen = started.images_seen;
  if (attempt.number > 1) draft.Mutate(SupersedeMetrics{report.job, attempt.number, started.images_seen});
  Collect(draft, report.job);
}

void TakeMetrics(Draft& draft, const SpoolReport& report, const MetricsReported& metrics) {
  draft.Mutate(AppendMetrics{report.job, report.attempt, metrics.trainer_sequence, metrics.images_seen, metrics.step,
                             metrics.time, metrics.values, draft.now().wall});
  JobRecord& job = draft.TouchJob(report.job);
  job.progress.images_seen = std::max(job.progress.images_seen, metrics.images_seen);
  if (Attempt* live = job.EditLiveAttempt()) live->end_images_seen = job.progress.images_seen;
  auto value = [&](absl::string_view name) -> std::optional<double> {
    auto it = metrics.values.find(std::string(name));
    if (it == metrics.values.end()) return std::nullopt;
    return it->second;
  };
  if (const auto loss = value("loss"); loss.has_value() && std::isfinite(*loss)) job.progress.loss = loss;
  if (!job.needs->keep_best_metric.empty()) {
    const auto metric = value(job.needs->keep_best_metric);
    if (metric.has_value() && std::isfinite(*metric)) job.last_metric = metric;
  }
  if (const auto rate = value("images_per_second")) SetRate(job, *rate);
}

// Adds `more` to the sorted, disjoint `ranges`; what touches becomes one.
void Merge(const std::vector<SampleRange>& more, std::vector<SampleRange>& ranges) {
  for (const SampleRange& range : more) {
    if (range.begin >= 0 && range.begin < range.end) ranges.push_back(range);
  }
  std::sort(ranges.begin(), ranges.end(), [](const SampleRange& a, const SampleRange& b) { return a.begin < b.begin; });
  std::vector<SampleRange> merged;
  for (const SampleRange& range : ranges) {
    if (!merged.empty() && range.begin <= merged.back().end) {
      merged.back().end = std::max(merged.back().end, range.end);
    } else {
      merged.push_back(range);
    }
  }
  ranges = std::move(merged);
}

void TakeNotice(Draft& draft, const SpoolReport& report, const TrainerNotice& notice) {
  if (!notice.skipped_ranges.empty()) Merge(notice.skipped_ranges, draft.EditJob(report.job).skipped_ranges);
  draft.Event(JobName(report.job), notice.reason, notice.message, WorkerName(report.worker));
  if (notice.reason == "CHECKPOINT_CORRUPT") MarkCorrupt(draft, report, notice.message);
}

// The worker's ranks of an attempt that p2d gave up are gone.
void ReleaseOrphan(Draft& draft, const SpoolReport& report) {
  auto is_it = [&](const Orphan& orphan) { return orphan.job == report.job && orphan.epoch == report.epoch; };
  const WorkerRecord* worker = draft.Worker(report.worker);
  if (std::none_of(worker->orphans.begin(), worker->orphans.end(), is_it)) return;
  std::erase_if(draft.EditWorker(report.worker).orphans, is_it);
  draft.RequestPass();
}

// Reports about processes: they need a live attempt.
void TakeFromMember(Draft& draft, const SpoolReport& report) {
  if (draft.Job(report.job)->live_attempt() == nullptr) return;
  if (const auto* ended = std::get_if<AttemptEnded>(&report.body)) MemberEnded(draft, report, *ended);
  if (const auto* started = std::get_if<TrainerStarted>(&report.body)) SaidStarted(draft, report, *started);
  if (const auto* finished = std::get_if<TrainerFinished>(&report.body)) TrainerSaidFinished(draft, report, *finished);
  if (std::holds_alternative<AttemptStarted>(report.body)) MemberStarted(draft, report);
}

// Everything but bytes is taken at the job's epoch only: a stale rank can burn electricity, never harm results. The
// epoch stays current after the attempt has ended, until the next one begins: what it left behind is settled then.
void Take(Draft& draft, const SpoolReport& report) {
  if (std::holds_alternative<BytesStored>(report.body)) return;
  if (std::holds_alternative<AttemptEnded>(report.body)) ReleaseOrphan(draft, report);
  const JobRecord* job = draft.Job(report.job);
  if (job == nullptr) {
    draft.set_refused(absl::StrCat("report of unknown job ", report.job));
    return;
  }
  if (report.epoch != job->epoch) {
    draft.set_refused(
        absl::StrCat("report of job ", report.job, " at stale epoch ", report.epoch, ", current ", job->epoch));
    return;
  }
  if (job->attempts.empty() || job->attempts.back()->FindMember(report.worker) == nullptr) {
    draft.set_refused(absl::StrCat("worker ", report.worker, " reports job ", report.job, ", which never was there"));
    return;
  }
  if (const auto* metrics = std::get_if<MetricsReported>(&report.body)) {
    TakeMetrics(draft, report, *metrics);
  } else if (const auto* checkpoint = std::get_if<CheckpointReported>(&report.body)) {
    CheckpointSaved(draft, report, *checkpoint);
  } else if (const auto* notice = std::get_if<TrainerNotice>(&report.body)) {
    TakeNotice(draft, report, *notice);
  } else if (const auto* artifact = std::get_if<ArtifactStored>(&report.body)) {
    ArtifactRecord record = artifact->artifact;
    record.job = report.job;
    record.attempt = report.attempt;
    record.create_time = draft.now().wall;
    draft.Mutate(PutArtifact{std::move(record)});
  } else {
    TakeFromMember(draft, report);
  }
}

}  // namespace

void SetRate(JobRecord& job, double images_per_second) {
  job.progress.images_per_second = images_per_second;
  const Attempt* attempt = job.live_attempt();
  if (attempt != nullptr && std::isfinite(images_per_second) && images_per_second > 0) {
    job.device_rate = images_per_second / static_cast<double>(attempt->ranks.size());
  }
}

absl::Status Handle(Draft& draft, const SpoolReport& report) {
  const WorkerRecord* worker = draft.Worker(report.worker);
  if (worker == nullptr)
    return Error(ErrorReason::kWorkerNotFound, absl::StrCat("worker \"", report.worker, "\" never said Hello"));
  if (report.spool_id != worker->spool_id) {
    return Error(ErrorReason::kSpoolOutOfStep,
                 absl::StrCat("record of spool ", report.spool_id, ", but worker ", report.worker,
                              " said that its spool is ", worker->spool_id, "; connect again"));
  }
  if (report.sequence <= worker->spool_acked) return absl::OkStatus();
  if (report.sequence != worker->spool_acked + 1) {
    return Error(ErrorReason::kSpoolOutOfStep,
                 absl::StrCat("spool record ", report.sequence, " of worker ", report.worker, " follows ",
                              worker->spool_acked, "; connect again and resend"));
  }
  const uint64_t spool_last = worker->spool_last;
  Take(draft, report);
  draft.Mutate(SetSpoolAck{report.worker, report.spool_id, report.sequence});
  if (report.sequence >= spool_last) EndMissing(draft, report.worker);
  return absl::OkStatus();
}

}  // namespace p2::scheduler
