// What can happen to the cluster: the second argument of Step().
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "server/scheduler/types.h"

namespace p2::scheduler {

// --- From people. Every command carries this. ---
struct CommandInfo {
  std::string actor;           // `user:{name}`.
  std::string request_id;      // Empty: not repeatable.
  std::string payload_sha256;  // Of the request without its request_id.
  // What the store has under request_id, read by the caller before Step.
  std::optional<RequestRecord> previous;
  bool operator==(const CommandInfo&) const = default;
};

// The job ID is drawn by the caller and free among finished jobs. RESOURCE_EXHAUSTED while the disk is full.
struct CreateJob {
  CommandInfo info;
  std::string id;
  JobNeeds needs;
  std::string preset;
  std::string spec_sha256, spec_bytes;        // The resolved p2.v1.TrainingSpec, serialized.
  std::string origins_sha256, origins_bytes;  // A serialized map of origins; empty: none.
  std::string task;                           // As JobRecord.task.
  std::map<std::string, std::string> labels;
  std::string owner, project = "default", queue = std::string(kDefaultQueue);
  int priority = 0;
  bool paused = false;
  Lineage lineage;
  std::string note;
  bool operator==(const CreateJob&) const = default;
};
// All or none.
struct CreateJobs {
  CommandInfo info;
  std::vector<CreateJob> jobs;  // Their own infos count for nothing but the actor.
  bool operator==(const CreateJobs&) const = default;
};

struct StopJob {  // Checkpoint, then CANCELLED.
  CommandInfo info;
  std::string job, reason;
  bool operator==(const StopJob&) const = default;
};
struct KillJob {  // CANCELLED, without a checkpoint.
  CommandInfo info;
  std::string job, reason;
  bool operator==(const KillJob&) const = default;
};
struct PauseJob {
  CommandInfo info;
  std::string job, reason;
  bool operator==(const PauseJob&) const = default;
};
struct ResumeJob {
  CommandInfo info;
  std::string job;
  // Left as they are if unset; both of the devices or none.
  std::optional<int> devices, devices_min, priority;
  bool operator==(const ResumeJob&) const = default;
};
// A verb for several jobs in one batch. The caller chose the jobs just before the step.
struct ControlJobs {
  enum class Verb { kStop, kKill, kPause, kResume, kDelete };
  CommandInfo info;
  Verb verb = Verb::kStop;
  std::vector<std::string> jobs;
  bool skip = false;  // Those whose state forbids it are passed over; else one of them fails all.
  std::string reason;
  bool operator==(const ControlJobs&) const = default;
};
struct UpdateJob {  // Of a live job; labels and note of an ended one too.
  CommandInfo info;
  std::string job;
  std::optional<int> priority;
  std::map<std::string, std::string> set_labels;
  std::vector<std::string> erase_labels;
  std::optional<std::string> note;
  bool operator==(const UpdateJob&) const = default;
};
// Within the line of its owner's jobs of its priority.
struct MoveJob {
  enum class Where { kFirst, kLast, kBefore, kAfter };
  CommandInfo info;
  std::string job;
  Where where = Where::kFirst;
  std::string other;  // Of kBefore and kAfter.
  bool operator==(const MoveJob&) const = default;
};

struct SetQueue {  // NOT_FOUND or ALREADY_EXISTS as `create` says.
  CommandInfo info;
  QueueRecord queue;  // create_time is set by Step.
  bool create = false;
  bool operator==(const SetQueue&) const = default;
};
struct DeleteQueue {  // FAILED_PRECONDITION while a live job is in it.
  CommandInfo info;
  std::string queue;
  bool operator==(const DeleteQueue&) const = default;
};
struct SetQuota {  // With no limit in it: the quota goes.
  CommandInfo info;
  QuotaRecord quota;
  bool operator==(const SetQuota&) const = default;
};
struct SetWeight {
  CommandInfo info;
  std::string share;  // As ShareRecord.id.
  double weight = 1;  // > 0.
  bool operator==(const SetWeight&) const = default;
};

struct PinCheckpoint {
  CommandInfo info;
  std::string job, checkpoint, note;
  bool pinned = true;
  bool operator==(const PinCheckpoint&) const = default;
};
// FAILED_PRECONDITION if it is pinned, in use, or the only good one of a live job.
struct DeleteCheckpoint {
  CommandInfo info;
  std::string job, checkpoint;
  bool operator==(const DeleteCheckpoint&) const = default;
};
// What the job's retention no longer keeps goes now.
struct CollectCheckpoints {
  CommandInfo info;
  std::string job;
  bool operator==(const CollectCheckpoints&) const = default;
};
struct DeleteJob {  // Of a terminal job.
  CommandInfo info;
  std::string job;
  bool operator==(const DeleteJob&) const = default;
};

struct CordonWorker {
  CommandInfo info;
  std::string worker, reason;
  bool drain = false;  // Also checkpoint what runs there and requeue it.
  // Of a drain: what still runs after so long is killed. Infinite: never.
  absl::Duration deadline = absl::InfiniteDuration();
  bool operator==(const CordonWorker&) const = default;
};
struct UncordonWorker {
  CommandInfo info;
  std::string worker;
  bool operator==(const UncordonWorker&) const = default;
};

struct RegisterDataset {
  CommandInfo info;
  DatasetRecord dataset;  // create_time is set by Step.
  bool operator==(const RegisterDataset&) const = default;
};

// --- From workers. ---
struct RunningAttempt {
  std::string job;
  int64_t epoch = 0;
  bool prepared = false;  // Holds slots, no process yet.
  int64_t images_seen = 0;
  bool operator==(const RunningAttempt&) const = default;
};

// ALREADY_EXISTS if another instance of that name is connected and fresh.
struct WorkerConnected {
  WorkerRecord
      hello;  // What Hello says: id … labels, spool_id, spool_last, session; spool_acked: what its spool has dropped.
  std::vector<RunningAttempt> running;
  bool operator==(const WorkerConnected&) const = default;
};

struct WorkerDisconnected {
  std::string worker;
  int64_t session = 0;  // Nothing happens if a newer stream stands.
  bool operator==(const WorkerDisconnected&) const = default;
};

struct AttemptProgress {
  std::string job;
  int64_t epoch = 0;
  int64_t images_seen = 0;
  double images_per_second = 0;
  std::string phase;
  bool operator==(const AttemptProgress&) const = default;
};

struct Heartbeat {
  std::string worker;
  int64_t session = 0;
  std::vector<AttemptProgress> progress;
  std::vector<RootRecord> roots;
  std::vector<DeviceFault> device_faults = {};  // All since the worker started.
  bool operator==(const Heartbeat&) const = default;
};

struct PrepareReply {
  std::string worker, job;
  int64_t epoch = 0;
  bool ok = false;
  std::string message;
  std::string master_address;  // With rank 0.
  int master_port = 0;
  bool source_missing = false;  // Not ok since what the job starts from is not there: a failure that counts.
  bool operator==(const PrepareReply&) const = default;
};

struct DeleteDone {
  std::string worker, root_id, path;
  std::string error;  // Empty: gone.
  bool operator==(const DeleteDone&) const = default;
};

// --- Spooled by workers: durable there until it is acknowledged, taken once, in order. ---
struct AttemptStarted {  // All ranks of this worker have a process.
  bool operator==(const AttemptStarted&) const = default;
};

struct RankExit {
  int rank = 0;
  int exit_code = 0;  // 0 to 255, or 128 + n for signal n.
  bool frozen = false;
  bool killed = false;  // By its agent, for another rank's sake: not a cause.
  std::string message;
  bool operator==(const RankExit&) const = default;
};

struct AttemptEnded {  // No process of the attempt is left on this worker.
  std::vector<RankExit> ranks;
  bool worker_stopped = false;
  std::string log_tail;
  bool fenced = false;  // With worker_stopped: it was cut off for longer than the job's deadlines.fence_after.
  bool operator==(const AttemptEnded&) const = default;
};

struct TrainerStarted {  // Rank 0 begins to step.
  int64_t images_seen = 0;
  std::string resumed_from;
  std::map<std::string, std::string> fingerprint;
  bool operator==(const TrainerStarted&) const = default;
};

struct MetricsReported {
  uint64_t trainer_sequence = 0;  // Rank 0's; (job, attempt, trainer_sequence) names the points for ever.
  int64_t images_seen = 0, step = 0;
  absl::Time time;
  std::map<std::string, double> values;
  bool operator==(const MetricsReported&) const = default;
};

struct CheckpointReported {     // Complete, verified and durable under its final name.
  CheckpointRecord checkpoint;  // id, images_seen, path, files, ema_profiles, manifest_sha256; the rest is set by Step.
  bool operator==(const CheckpointReported&) const = default;
};

struct TrainerFinished {
  enum class Outcome { kUnspecified = 0, kDone = 1, kStopped = 2, kFailed = 3 };
  Outcome outcome = Outcome::kUnspecified;
  int exit_code = 0;
  int64_t images_seen = 0;
  std::string message;
  bool operator==(const TrainerFinished&) const = default;
};

struct TrainerNotice {
  std::string reason, message;  // reason: CHECKPOINT_CORRUPT (the message names the checkpoint), NUMERICS_CHANGED …
  std::vector<SampleRange> skipped_ranges;  // Of DATA_SKIPPED; empty or reversed ones count for nothing.
  bool operator==(const TrainerNotice&) const = default;
};

struct ArtifactStored {  // Its bytes are durable in the blob store and match their digest.
  ArtifactRecord artifact;
  bool operator==(const ArtifactStored&) const = default;
};

// Bytes that the blob store already took (log and artifact chunks), or a record that holds nothing for the core.
struct BytesStored {
  bool operator==(const BytesStored&) const = default;
};

using SpoolBody = std::variant<AttemptStarted, AttemptEnded, TrainerStarted, MetricsReported, CheckpointReported,
                               TrainerFinished, TrainerNotice, ArtifactStored, BytesStored>;

// One record. A sequence at or below the acknowledged one changes nothing. A record of a stale epoch or an unknown job
// is acknowledged without effect. FAILED_PRECONDITION if a sequence is left out: the stream must start again.
struct SpoolReport {
  std::string worker, spool_id;
  uint64_t sequence = 0;
  std::string job;
  int64_t epoch = 0;
  int attempt = 0;
  int rank = 0;
  SpoolBody body;
  bool operator==(const SpoolReport&) const = default;
};

// --- From p2d itself. ---
struct Tick {  // Time passes: silence, backoffs, deadlines.
  // For so long p2d itself did not look (it was stopped, or its disk was slow): nobody's silence.
  absl::Duration stalled;
  bool operator==(const Tick&) const = default;
};
struct Recovered {  // First event of a process: monotonic times start anew, actions still needed are issued again.
  bool operator==(const Recovered&) const = default;
};
// Gives away what is free, while ClusterState::pass_due().
struct SchedulePass {
  bool operator==(const SchedulePass&) const = default;
};
struct DiskState {  // The data directory crossed a watermark.
  bool full = false;
  std::string message;
  bool operator==(const DiskState&) const = default;
};

using Event =
    std::variant<CreateJob, CreateJobs, StopJob, KillJob, PauseJob, ResumeJob, ControlJobs, UpdateJob, MoveJob,
                 SetQueue, DeleteQueue, SetQuota, SetWeight, PinCheckpoint, DeleteCheckpoint, CollectCheckpoints,
                 DeleteJob, CordonWorker, UncordonWorker, RegisterDataset, WorkerConnected, WorkerDisconnected,
                 Heartbeat, PrepareReply, DeleteDone, SpoolReport, Tick, Recovered, SchedulePass, DiskState>;

}  // namespace p2::scheduler
