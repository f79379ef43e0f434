#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/storage_layout.h"
#include "server/scheduler/decisions.h"
#include "server/scheduler/placement.h"

namespace p2::scheduler {
namespace {

constexpr int kLeastKept = 2;  // A bad newest one must have a predecessor.

// Sends the deletion to the first worker that is connected and sees the root; without one it waits.
void SendDeletion(Draft& draft, Deletion deletion) {
  for (const auto& [id, worker] : draft.base().workers()) {
    if (worker->session == 0 || worker->state == WorkerState::kLost || !SeesRoot(*worker, "", deletion.root_id))
      continue;
    draft.Act(DeletePath{id, deletion.root_id, deletion.path});
    return;
  }
}

// A live job starts from it and has no checkpoint of its own to go on from yet.
bool IsSourceOfLiveJob(const Draft& draft, const CheckpointRecord& checkpoint) {
  const std::vector<const JobRecord*> jobs = draft.LiveJobs();
  return std::any_of(jobs.begin(), jobs.end(), [&](const JobRecord* job) {
    const JobSource& source = job->needs.source;
    return source.job == checkpoint.job && source.checkpoint == checkpoint.id && job->ReadsSource();
  });
}

// Registers the deletion and sends it; `retry_mono` is set here.
void DeletePathOf(Draft& draft, Deletion deletion) {
  deletion.retry_mono = draft.now().mono + draft.options().delete_retry;
  draft.Mutate(PutDeletion{deletion});
  SendDeletion(draft, std::move(deletion));
}

void RefreshLatest(Draft& draft, absl::string_view id) {
  const std::vector<CheckpointPtr> good = ResumeCandidates(draft, id);
  draft.EditJob(id).latest_checkpoint = good.empty() ? "" : good.front()->id;
}

}  // namespace

std::vector<CheckpointPtr> ResumeCandidates(const Draft& draft, absl::string_view job) {
  std::vector<CheckpointPtr> good;
  for (const auto& [key, checkpoint] : draft.CheckpointsOf(job)) {
    if (checkpoint->state == CheckpointState::kCommitted) good.insert(good.begin(), checkpoint);
  }
  return good;
}

void CheckpointSaved(Draft& draft, const SpoolReport& report, const CheckpointReported& reported) {
  JobRecord& job = draft.EditJob(report.job);
  CheckpointRecord checkpoint = reported.checkpoint;
  const auto known = draft.CheckpointsOf(report.job);
  if (std::any_of(known.begin(), known.end(), [&](const auto& entry) { return entry.second->id == checkpoint.id; }))
    return;
  checkpoint.job = report.job;
  checkpoint.state = CheckpointState::kCommitted;
  checkpoint.epoch = report.epoch;
  checkpoint.attempt = report.attempt;
  checkpoint.root = job.needs.checkpoint_root;
  checkpoint.root_id = job.needs.checkpoint_root_id;
  checkpoint.create_time = draft.now().wall;
  checkpoint.size_bytes = 0;
  for (const CheckpointFile& file : checkpoint.files) checkpoint.size_bytes += file.size_bytes;
  const std::vector<CheckpointPtr> before = ResumeCandidates(draft, report.job);
  if (before.empty() || checkpoint.images_seen > before.front()->images_seen) {
    job.restarts_used = job.consecutive_failures = 0;
  }
  job.progress.images_seen = std::max(job.progress.images_seen, checkpoint.images_seen);
  draft.Event(JobName(report.job), "CHECKPOINT_COMMITTED",
              absl::StrCat(checkpoint.id, ": ", checkpoint.images_seen, " images, ", checkpoint.size_bytes, " bytes"),
              WorkerName(report.worker));
  draft.PutCheckpoint(std::move(checkpoint));
  RefreshLatest(draft, report.job);
  job.update_time = draft.now().wall;
  Collect(draft, report.job);
}

void MarkCorrupt(Draft& draft, const SpoolReport& report, absl::string_view text) {
  for (const CheckpointPtr& checkpoint : ResumeCandidates(draft, report.job)) {
    if (!absl::StrContains(text, checkpoint->id)) continue;
    CheckpointRecord corrupt = *checkpoint;
    corrupt.state = CheckpointState::kCorrupt;
    draft.PutCheckpoint(std::move(corrupt));
    RefreshLatest(draft, report.job);
    return;
  }
}

void Collect(Draft& draft, absl::string_view id) {
  const JobRecord& job = *draft.Job(id);
  const size_t keep = static_cast<size_t>(std::max(kLeastKept, job.needs.keep_last));
  const Attempt* attempt = job.live_attempt();
  const std::vector<CheckpointPtr> good = ResumeCandidates(draft, id);
  for (size_t i = keep; i < good.size(); ++i) {
    const CheckpointRecord& old = *good[i];
    const bool in_use = attempt != nullptr &&
                        std::count(attempt->resume_candidates.begin(), attempt->resume_candidates.end(), old.id) > 0;
    if (old.pinned || in_use || IsSourceOfLiveJob(draft, old)) continue;
    CheckpointRecord deleting = old;
    deleting.state = CheckpointState::kDeleting;
    Delete(draft, deleting);
    draft.PutCheckpoint(std::move(deleting));
  }
}

void Delete(Draft& draft, const CheckpointRecord& checkpoint) {
  DeletePathOf(draft, {checkpoint.root_id, checkpoint.path, checkpoint.job, checkpoint.id});
}

void DeleteRunFiles(Draft& draft, const JobRecord& job) {
  const auto remove = [&](std::string path) {
    DeletePathOf(draft, {job.needs.checkpoint_root_id, std::move(path), job.id, ""});
  };
  if (job.needs.writes_output) return remove(JobOutput(job.id));
  for (const char* name : {kSnapshotsDirectory, kProgressFile, kTensorboardDirectory})
    remove(absl::StrCat(JobDirectory(job.id), "/", name));
}

void RetryDeletions(Draft& draft) {
  for (const auto& [key, deletion] : draft.base().deletions()) {
    if (deletion.retry_mono > draft.now().mono) continue;
    Deletion again = deletion;
    again.retry_mono = draft.now().mono + draft.options().delete_retry;
    draft.Mutate(PutDeletion{again, /*durable=*/false});
    SendDeletion(draft, std::move(again));
  }
}

absl::Status Handle(Draft& draft, const DeleteDone& event) {
  const auto& deletions = draft.base().deletions();
  const auto it = deletions.find({event.root_id, event.path});
  if (it == deletions.end()) return absl::OkStatus();
  const Deletion& deletion = it->second;
  if (!event.error.empty()) {
    draft.Event(JobName(deletion.job), "DELETE_FAILED",
                absl::StrCat(event.path, ": ", event.error, "; tried again later"), WorkerName(event.worker));
    return absl::OkStatus();
  }
  draft.Mutate(EraseDeletion{event.root_id, event.path});
  if (!deletion.checkpoint.empty()) draft.Mutate(EraseCheckpoint{deletion.job, deletion.checkpoint});
  return absl::OkStatus();
}

}  // namespace p2::scheduler
