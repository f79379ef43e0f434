// The parts of Step(), by topic. Each works on the draft of one step; internal to server/scheduler.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "server/scheduler/draft.h"

namespace p2::scheduler {

std::string JobName(absl::string_view id);          // `jobs/{id}`
std::string WorkerName(absl::string_view id);       // `workers/{id}`
absl::string_view ReasonName(StatusReason reason);  // As in p2.v1.StatusReason: `RANK_DIED`.
absl::Status JobNotFound(absl::string_view id);

// The only place where a job changes its state; an illegal move is a Bug. Records the event JOB_STATE.
void Move(Draft& draft, absl::string_view job, JobState to, StatusReason reason, std::string message,
          absl::string_view actor = "p2d");

// --- commands.cc ---
absl::Status Handle(Draft& draft, const CreateJob& command);
absl::Status Handle(Draft& draft, const StopJob& command);
absl::Status Handle(Draft& draft, const KillJob& command);
absl::Status Handle(Draft& draft, const PauseJob& command);
absl::Status Handle(Draft& draft, const ResumeJob& command);
absl::Status Handle(Draft& draft, const DeleteJob& command);
absl::Status Handle(Draft& draft, const CordonWorker& command);
absl::Status Handle(Draft& draft, const UncordonWorker& command);
absl::Status Handle(Draft& draft, const RegisterDataset& command);
absl::Status Handle(Draft& draft, const CreateJobs& command);
absl::Status Handle(Draft& draft, const ControlJobs& command);

// --- queue_commands.cc ---
absl::Status Handle(Draft& draft, const UpdateJob& command);
absl::Status Handle(Draft& draft, const MoveJob& command);
absl::Status Handle(Draft& draft, const SetQueue& command);
absl::Status Handle(Draft& draft, const DeleteQueue& command);
absl::Status Handle(Draft& draft, const SetQuota& command);
absl::Status Handle(Draft& draft, const SetWeight& command);

// --- workers.cc: streams, silence, what a worker says that it runs ---
absl::Status Handle(Draft& draft, const WorkerConnected& event);
absl::Status Handle(Draft& draft, const WorkerDisconnected& event);
absl::Status Handle(Draft& draft, const Heartbeat& event);
absl::Status Handle(Draft& draft, const Recovered& event);
// p2d did not listen for so long: it counts for no worker's silence and no gang's deadline.
void ForgiveSilence(Draft& draft, absl::Duration stalled);
// Silent workers become SUSPECT, then LOST.
void WatchSilence(Draft& draft);
// What still runs on a worker when its drain's deadline has passed is killed.
void WatchDrains(Draft& draft);

// --- gang.cc: two-phase start and stop of an attempt ---
absl::Status Handle(Draft& draft, const PrepareReply& event);
// REQUIRES: QUEUED, and the slots are free. Raises the epoch and sends Prepare to every worker.
// `backfill`: it runs on devices that are reserved for another job.
void StartAttempt(Draft& draft, absl::string_view job, std::vector<RankPlacement> ranks, bool backfill);
void MemberStarted(Draft& draft, const SpoolReport& report);
// What member `worker` of the job's live attempt needs to hear (again) in its state. `listed`: it says that it has the
// attempt; `prepared`: without processes.
void RemindMember(Draft& draft, absl::string_view job, absl::string_view worker, bool listed, bool prepared);
// Asks every member that is not done to end; members without processes end at once, lost ones become orphans. Then
// settles.
void StopGang(Draft& draft, absl::string_view job, StopMode mode);
// The gang cannot be formed because of `worker`: stops it, and the job is queued again.
void FailGang(Draft& draft, absl::string_view job, absl::string_view worker, StatusReason reason, std::string message);
// Gangs that took too long.
void WatchGangs(Draft& draft);

// --- attempts.cc: how attempts end, and what follows ---
void MemberEnded(Draft& draft, const SpoolReport& report, const AttemptEnded& ended);
void TrainerSaidFinished(Draft& draft, const SpoolReport& report, const TrainerFinished& finished);
// Members that their worker did not list, once its spool is read to the end.
void EndMissing(Draft& draft, absl::string_view worker);
// Gives up the members of the job's live attempt that are on lost workers: their slots become orphans.
void AbandonLostMembers(Draft& draft, absl::string_view job);
// Jobs of lost workers: what was asked to end has ended; what runs goes elsewhere if there are devices.
void ReviewLost(Draft& draft);
// Keeps the worst reason of the attempt.
void Blame(Attempt& attempt, StatusReason reason, std::string message, std::optional<int> exit_code = std::nullopt);
// No new gangs go there, for the reason `why`, until somebody has looked at it. Nothing if it is cordoned already.
void CordonSuspect(Draft& draft, absl::string_view worker, absl::string_view why);
// A worker on which attempts of several jobs broke, one after the other, is cordoned.
void WatchNodes(Draft& draft, absl::string_view job, const Attempt& ended);
// If no member is left: the attempt ends and the job moves on.
void Settle(Draft& draft, absl::string_view job);

// --- reports.cc: what trainers say ---
// The job's rate, as it runs now.
void SetRate(JobRecord& job, double images_per_second);
absl::Status Handle(Draft& draft, const SpoolReport& report);

// --- checkpoints.cc ---
void CheckpointSaved(Draft& draft, const SpoolReport& report, const CheckpointReported& reported);
// The committed checkpoint whose ID stands in `text` is never used again.
void MarkCorrupt(Draft& draft, const SpoolReport& report, absl::string_view text);
// IDs of good checkpoints, best first.
std::vector<CheckpointPtr> ResumeCandidates(const Draft& draft, absl::string_view job);
// Deletes what nothing protects (retention.h).
void Collect(Draft& draft, absl::string_view job);
absl::Status Handle(Draft& draft, const PinCheckpoint& command);
absl::Status Handle(Draft& draft, const DeleteCheckpoint& command);
absl::Status Handle(Draft& draft, const CollectCheckpoints& command);
// Registers the deletion and sends it to a worker that sees the root.
void Delete(Draft& draft, const CheckpointRecord& checkpoint);
// The same of what a job's runs leave beside its checkpoints: a training (worker/trainer/run_files.h, ema_snapshots.h),
// or a task's output.
void DeleteRunFiles(Draft& draft, const JobRecord& job);
// Sends deletions that are due.
void RetryDeletions(Draft& draft);
// A worker has connected: it gets those that nobody who is connected has been asked for.
void AskForDeletions(Draft& draft, const WorkerRecord& worker);
absl::Status Handle(Draft& draft, const DeleteDone& event);

// --- schedule.cc ---
// Offers the free devices to the queued jobs in their order, makes room for those that come first, and gives every
// other ready job the reason why it waits.
void RunSchedulingPass(Draft& draft);

// --- capacity.cc ---
// True if the job would fit on workers that take gangs, its own slots there counted as free.
bool FitsElsewhere(const Draft& draft, const JobRecord& job);

}  // namespace p2::scheduler
