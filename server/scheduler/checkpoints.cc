#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/error_reason.h"
#include "common/status_macros.h"
#include "common/storage_layout.h"
#include "server/scheduler/decisions.h"
#include "server/scheduler/placement.h"
#include "server/scheduler/retention.h"

namespace p2::scheduler {
namespace {

void Ask(Draft& draft, Deletion deletion, const std::string& worker, bool durable) {
  if (!worker.empty()) draft.Act(DeletePath{worker, deletion.root_id, deletion.path});
  if (!worker.empty()) draft.set_last_asked(worker);
  deletion.asked = worker;
  deletion.retry_mono = draft.now().mono + draft.options().delete_retry;
  draft.Mutate(PutDeletion{std::move(deletion), durable});
}

// How many a worker that connects is asked for at once; what is left is shared out as it is due again.
constexpr int kMostAtConnect = 100;

// Asks the next worker that is connected and sees the root, in turn behind the one that was asked last; a deletion that
// was asked of one before, which may have failed, goes to the next behind that. Without one it waits.
void AskNext(Draft& draft, const Deletion& deletion, bool durable) {
  const auto& workers = draft.base().workers();
  const auto can = [&](const auto& entry) {
    const WorkerRecord& worker = *entry.second;
    return worker.session != 0 && worker.state != WorkerState::kLost && SeesRoot(worker, "", deletion.root_id);
  };
  auto next = std::find_if(workers.upper_bound(deletion.asked.empty() ? draft.last_asked() : deletion.asked),
                           workers.end(), can);
  if (next == workers.end()) next = std::find_if(workers.begin(), workers.end(), can);
  Ask(draft, deletion, next == workers.end() ? "" : next->first, durable);
}

void BeginDelete(Draft& draft, const CheckpointRecord& checkpoint) {
  CheckpointRecord deleting = checkpoint;
  deleting.state = CheckpointState::kDeleting;
  Delete(draft, deleting);
  draft.PutCheckpoint(std::move(deleting));
}

// NOT_FOUND if there is no committed one of that ID.
absl::StatusOr<CheckpointPtr> FindGood(const Draft& draft, const std::string& job, const std::string& id) {
  if (draft.Job(job) == nullptr) return JobNotFound(job);
  for (const CheckpointPtr& good : ResumeCandidates(draft, job)) {
    if (good->id == id) return good;
  }
  return Error(ErrorReason::kCheckpointNotFound, absl::StrCat("job \"", job, "\" has no good checkpoint \"", id,
                                                              "\"; `p2ctl ckpt list ", job, "` shows them"));
}

void RefreshLatest(Draft& draft, absl::string_view id) {
  const std::vector<CheckpointPtr> good = ResumeCandidates(draft, id);
  draft.EditJob(id).latest_checkpoint = good.empty() ? "" : good.front()->id;
}

}  // namespace

std::vector<CheckpointPtr> ResumeCandidates(const Draft& draft, absl::string_view job) {
  std::vector<CheckpointPtr> good;
  const ClusterState::Checkpoints& all = draft.CheckpointsOf(job);
  for (auto it = all.rbegin(); it != all.rend(); ++it) {
    if (it->second->state == CheckpointState::kCommitted) good.push_back(it->second);
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
  checkpoint.root = job.needs->checkpoint_root;
  checkpoint.root_id = job.needs->checkpoint_root_id;
  checkpoint.create_time = draft.now().wall;
  checkpoint.metric = job.last_metric;
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
  const Attempt* live = job.live_attempt();
  if (live != nullptr && live->epoch == report.epoch && static_cast<int>(live->ranks.size()) < job.needs->devices) {
    job.may_grow = true;
    draft.RequestPass();
  }
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
  for (const RetentionVerdict& verdict : JudgeCheckpoints(draft, id)) {
    if (!verdict.keep) BeginDelete(draft, *verdict.checkpoint);
  }
}

void Delete(Draft& draft, const CheckpointRecord& checkpoint) {
  AskNext(draft, {checkpoint.root_id, checkpoint.path, checkpoint.job, checkpoint.id}, /*durable=*/true);
}

void DeleteRunFiles(Draft& draft, const JobRecord& job) {
  const auto remove = [&](std::string path) {
    AskNext(draft, {job.needs->checkpoint_root_id, std::move(path), job.id, ""}, /*durable=*/true);
  };
  if (job.needs->writes_output) return remove(JobOutput(job.id));
  for (const char* name : {kSnapshotsDirectory, kProgressFile, kTensorboardDirectory})
    remove(absl::StrCat(JobDirectory(job.id), "/", name));
}

void RetryDeletions(Draft& draft) {
  for (const auto& [key, deletion] : draft.base().deletions()) {
    if (deletion.retry_mono <= draft.now().mono) AskNext(draft, deletion, /*durable=*/false);
  }
}

void AskForDeletions(Draft& draft, const WorkerRecord& worker) {
  int asked = 0;
  for (const auto& [key, deletion] : draft.base().deletions()) {
    if (asked == kMostAtConnect) return;
    if (!SeesRoot(worker, "", deletion.root_id)) continue;
    const WorkerRecord* other = deletion.asked == worker.id ? nullptr : draft.Worker(deletion.asked);
    if (other != nullptr && other->session != 0) continue;
    Ask(draft, deletion, worker.id, /*durable=*/false);
    ++asked;
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

absl::Status Handle(Draft& draft, const PinCheckpoint& command) {
  P2_ASSIGN_OR_RETURN(const CheckpointPtr known, FindGood(draft, command.job, command.checkpoint));
  CheckpointRecord checkpoint = *known;
  checkpoint.pinned = command.pinned;
  checkpoint.pin_note = command.pinned ? command.note : "";
  draft.Event(JobName(command.job), command.pinned ? "CHECKPOINT_PINNED" : "CHECKPOINT_UNPINNED",
              absl::StrCat(command.checkpoint, command.note.empty() ? "" : ": ", command.note), command.info.actor,
              known->pinned ? "pinned" : "not pinned", command.pinned ? "pinned" : "not pinned");
  draft.PutCheckpoint(std::move(checkpoint));
  draft.set_answer(JobName(command.job));
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const DeleteCheckpoint& command) {
  P2_ASSIGN_OR_RETURN(const CheckpointPtr known, FindGood(draft, command.job, command.checkpoint));
  const JobRecord& job = *draft.Job(command.job);
  const std::vector<RetentionVerdict> verdicts = JudgeCheckpoints(draft, command.job);
  const auto verdict = std::find_if(verdicts.begin(), verdicts.end(),
                                    [&](const RetentionVerdict& it) { return it.checkpoint->id == known->id; });
  const bool only = verdicts.size() == 1 && !IsTerminal(job.state);
  if (known->pinned || only || verdict->in_use) {
    return Error(
        ErrorReason::kCheckpointInUse,
        absl::StrCat("checkpoint \"", known->id, "\" of job \"", job.id, "\" is kept: ",
                     only && !known->pinned && !verdict->in_use ? "the only good one of a live job" : verdict->why,
                     known->pinned ? "; `p2ctl ckpt unpin` it first" : ""));
  }
  BeginDelete(draft, *known);
  draft.Event(JobName(command.job), "CHECKPOINT_DELETED", known->id, command.info.actor);
  if (!IsTerminal(job.state)) RefreshLatest(draft, command.job);
  draft.set_answer(JobName(command.job));
  return absl::OkStatus();
}

absl::Status Handle(Draft& draft, const CollectCheckpoints& command) {
  if (draft.Job(command.job) == nullptr) return JobNotFound(command.job);
  Collect(draft, command.job);
  draft.set_answer(JobName(command.job));
  return absl::OkStatus();
}

}  // namespace p2::scheduler
