// The records that p2d keeps, as plain values: what proto/p2/v1 shows to clients, less the spec's own fields, plus what
// the scheduler needs. The store keeps them in messages of proto/p2/storage/v1; nothing here knows a wire format.
//
// Wall-clock times are for people and records. Everything that decides anything runs on the monotonic clock; such
// members say `mono`, mean nothing to another process, are not stored, and are set anew by Recovered. Members marked
// "volatile" change without a write to the store.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/scheduler/job_lifecycle.h"
#include "server/scheduler/shared.h"

namespace p2::scheduler {

// Both readings of the clock at one event.
struct Moment {
  absl::Time wall;
  absl::Time mono;
};

// Why a job waits, stopped or ended; the numbers of p2.v1.StatusReason (a test compares them). On disk: do not change.
enum class StatusReason {
  kUnspecified = 0,
  kWaitingForDevices = 1,
  kNotEnoughDevices = 2,
  kRootNotVisible = 3,
  kBackoff = 4,
  kGangForming = 5,
  kPausedByUser = 6,
  kStoppedByUser = 7,
  kKilledByUser = 8,
  kCompleted = 9,
  kRankDied = 10,
  kRankFrozen = 11,
  kWorkerLost = 12,
  kWorkerStopped = 13,
  kCommunication = 14,
  kDeviceError = 15,
  kOutOfMemory = 16,
  kNumeric = 17,
  kData = 18,
  kStorage = 19,
  kBadSpec = 20,
  kRestartBudgetSpent = 21,
  kGangNotFormed = 22,
  kDiskFull = 23,
  kWorkerDrained = 24,
  kQuotaExceeded = 25,
  kPreempted = 26,
  kReserved = 27,
  kYielded = 28,
  kResizing = 29,
};

// What a job starts from: a checkpoint of `job`, or files of others (then both IDs are empty).
struct JobSource {
  std::string root, root_id, path;  // `path`: file or directory below the root.
  std::string job, checkpoint;
  int64_t images_seen = 0;  // Of the checkpoint.
  bool is_run = false;      // A training goes on from it: optimizer and position too.
  bool operator==(const JobSource&) const = default;
};

// What scheduling needs of a resolved spec. Immutable, but for the kind of a task that draws images: the first attempt
// that starts decides it, where the spec does not.
struct JobNeeds {
  int devices = 1;                              // At most; a job that is not elastic takes exactly these.
  int devices_min = 0;                          // An elastic job starts with as few; 0: `devices`.
  std::string kind;                             // `cpu`, `cuda`; empty: either, never both.
  int64_t device_memory_min = 0;                // Bytes that each device has.
  std::map<std::string, std::string> selector;  // Labels that a worker must have.
  bool preemptible = true;                      // It saves a checkpoint when told to, and goes on from there.
  std::string dataset;
  // Name and UUID; with no UUID the name decides. No name: it reads no dataset.
  std::string dataset_root, dataset_root_id;
  std::string dataset_path, dataset_fingerprint;
  std::string checkpoint_root, checkpoint_root_id;
  int keep_last = 3;       // Committed checkpoints kept; taken as at least 2.
  int64_t keep_every = 0;  // Also the first at or after each multiple of so many images. 0: none.
  int keep_best = 0;       // Also so many with the lowest keep_best_metric.
  std::string keep_best_metric;
  int restart_budget = 3;
  absl::Duration backoff_initial = absl::Seconds(1);
  absl::Duration backoff_max = absl::Seconds(300);
  absl::Duration stop_deadline = absl::Seconds(60);
  int64_t images_total = 0;  // 0: progress is not counted in images.
  JobSource source;          // No root: it starts from nothing.
  bool writes_output = false;
  bool bitwise = false;  // Later attempts run only where the first one's numbers come out the same.
  bool operator==(const JobNeeds&) const = default;

  int least_devices() const { return devices_min > 0 ? devices_min : devices; }
};

// Which job it was made from, and how. On disk: do not change values of Kind.
struct Lineage {
  enum class Kind { kNone = 0, kFork = 1, kClone = 2, kExtend = 3 };
  Kind kind = Kind::kNone;
  std::string job, checkpoint;  // No checkpoint: none was taken over.
  bool operator==(const Lineage&) const = default;
};

// What a job was made with, and what people say of it: the same for many jobs, and hardly ever changed.
struct JobDetails {
  std::string preset;
  std::string spec_sha256;     // Key of the resolved spec (PutSpec).
  std::string origins_sha256;  // Key of its origins (PutSpec); empty if none.
  std::string task;            // A serialized p2.v1.TaskSpec; empty: the job trains.
  std::map<std::string, std::string> labels;
  std::string owner, project = "default", queue = "default";
  Lineage lineage;
  std::string note;  // Of people.
  bool operator==(const JobDetails&) const = default;
};

struct Progress {
  int64_t images_seen = 0;
  double images_per_second = 0;
  std::optional<double> loss;
  std::string phase;  // `start`, `step`, `preview`, `save`, `stop`; empty while nothing runs.
  bool operator==(const Progress&) const = default;
};

struct RankPlacement {
  int rank = 0;
  std::string worker, slot;
  bool operator==(const RankPlacement&) const = default;
};

// How far one worker of a gang is. On disk: do not change values.
enum class MemberState {
  kPreparing = 0,  // Prepare sent.
  kPrepared = 1,   // It holds the slots and waits for Start.
  kStarting = 2,   // Start sent.
  kStarted = 3,    // All its ranks have a process.
  kEnded = 4,      // No process is left; its slots are free.
};

struct Member {
  std::string worker;
  MemberState state = MemberState::kPreparing;
  // The worker reconnected without this attempt: it has ended unless its spool, once read to the end, says more.
  bool missing = false;
  bool operator==(const Member&) const = default;
};

// On disk: do not change values. The numbers of p2.v1.Attempt.Outcome.
enum class Outcome { kUnspecified = 0, kLive = 1, kSucceeded = 2, kStopped = 3, kFailed = 4, kAbandoned = 5 };

// What the workers of an attempt were last asked to do. On disk: do not change values.
enum class StopMode { kNone = 0, kCheckpoint = 1, kKill = 2 };

// Why p2d itself made a job PAUSING; all but kNone lead back to QUEUED. On disk: do not change values.
enum class StopCause {
  kNone = 0,     // A person's pause.
  kDrain = 1,    // Its worker is drained.
  kPreempt = 2,  // A job of higher priority, or one within its quota, takes its devices.
  kYield = 3,    // It ran on devices that were reserved for another job, which now can start.
  kGrow = 4,     // It starts again with more devices.
};

// One start of a job: a gang with its epoch. Holds the slots of its `ranks` on every member that has not ended.
struct Attempt {
  int number = 0;  // From 1.
  int64_t epoch = 0;
  Outcome outcome = Outcome::kLive;
  // While live: the worst that was reported so far; afterwards why it ended.
  StatusReason reason = StatusReason::kUnspecified;
  std::string message;
  absl::Time create_time = absl::InfinitePast();
  absl::Time start_time = absl::InfinitePast();  // When all ranks had started; InfinitePast before.
  absl::Time end_time = absl::InfinitePast();
  std::optional<int> exit_code;  // Of the rank that ended wrongly; 128 + n for signal n.
  int64_t start_images_seen = 0;
  int64_t end_images_seen = 0;  // While live: as far as it is, and volatile.
  std::string resumed_from;
  std::vector<RankPlacement> ranks;
  std::map<std::string, std::string> fingerprint;

  std::vector<Member> members;  // In the order of their first rank.
  std::string master_address;
  int master_port = 0;
  // Checkpoint IDs given to the trainers, best first; kept until rank 0 has loaded one. Not collected meanwhile.
  std::vector<std::string> resume_candidates;
  std::string culprit;   // Volatile. While live: the worker of the rank that is to blame.
  std::string log_tail;  // Volatile. While live: last lines of the rank that ended wrongly.
  StopMode stop_mode = StopMode::kNone;
  bool reported_done = false;                         // Rank 0 said Finished{DONE}.
  bool reported_stopped = false;                      // A rank ended by 40 or 41.
  absl::Time deadline_mono = absl::InfiniteFuture();  // Volatile. While STARTING: when the gang counts as not formed.
  absl::Time create_mono = absl::InfinitePast();      // Volatile. InfinitePast: before p2d started.
  bool backfill = false;  // It runs on devices that are reserved for another job, and yields when that one can start.
  bool operator==(const Attempt&) const = default;

  bool live() const { return outcome == Outcome::kLive; }
  // Null if the worker is not in the gang.
  const Member* FindMember(absl::string_view worker) const {
    for (const Member& member : members) {
      if (member.worker == worker) return &member;
    }
    return nullptr;
  }
  Member* FindMember(absl::string_view worker) {
    return const_cast<Member*>(static_cast<const Attempt*>(this)->FindMember(worker));
  }
};

// Samples [begin, end) of a run, by their index g (images seen).
struct SampleRange {
  int64_t begin = 0, end = 0;
  bool operator==(const SampleRange&) const = default;
};

// A terminal job holds no slot and keeps its state; a late report at its epoch may still add a checkpoint or metrics.
struct JobRecord {
  std::string id;
  JobState state = JobState::kQueued;
  StatusReason reason = StatusReason::kUnspecified;
  std::string message;
  Shared<JobNeeds> needs;
  Shared<JobDetails> details;
  int priority = 0;
  std::string request_id;    // Of CreateJob; empty if none.
  int64_t create_order = 0;  // Rising; the age in the queue.
  int64_t order_key = 0;     // Its place among its owner's jobs of its priority: the lower first. See DefaultOrderKey.
  absl::Time create_time = absl::InfinitePast();
  absl::Time start_time = absl::InfinitePast(), end_time = absl::InfinitePast(), update_time = absl::InfinitePast();
  absl::Time not_before = absl::InfinitePast();  // InfinitePast: no backoff.
  absl::Duration backoff;                        // Length of the wait that ends at not_before.
  Progress progress;                             // Volatile.
  std::vector<Shared<Attempt>> attempts;         // Oldest first; the last 100.
  int64_t epoch = 0;
  int attempt_count = 0;
  int restarts_used = 0;          // Counted failures since the last progress.
  int consecutive_failures = 0;   // All failures since the last progress; the backoff grows with it.
  std::string latest_checkpoint;  // ID of the newest committed one; empty if none.
  // What its attempts passed over because numbers did not stay finite, rising and apart. A checkpoint knows only what
  // came before it, so every attempt is told.
  std::vector<SampleRange> skipped_ranges;
  // With needs.bitwise, once an attempt has loaded its state: what it ran on (SlotRecord.device_name,
  // WorkerRecord.version). Empty before.
  std::string numerics_device, numerics_version;
  std::optional<double> last_metric;        // Volatile. JobNeeds.keep_best_metric.
  StopCause stop_cause = StopCause::kNone;  // While PAUSING.
  int preemptions = 0;                      // How often it was preempted.
  int churn = 0;                            // The same within the churn window that began at churn_since_mono.
  absl::Time churn_since_mono = absl::InfinitePast();  // Volatile.
  double device_rate = 0;  // Images a second and device of its last attempt that told; 0: not known.
  bool may_grow = false;   // Volatile. It saved a checkpoint since a pass looked whether it can have more devices.
  int64_t revision = 0;    // Of the last change, progress included; the etag.
  absl::Time ready_mono = absl::InfinitePast();  // Volatile. End of the backoff.
  bool operator==(const JobRecord&) const = default;

  // Whether its next attempt reads needs.source: a training goes on from its own checkpoints once it has one.
  bool ReadsSource() const {
    return !needs->source.root.empty() && (!details->task.empty() || latest_checkpoint.empty());
  }
  // The newest attempt while it is live, else null.
  const Attempt* live_attempt() const {
    return !attempts.empty() && attempts.back()->live() ? &*attempts.back() : nullptr;
  }
  // The same to change; void with the next copy of the record.
  Attempt* EditLiveAttempt() { return live_attempt() == nullptr ? nullptr : &attempts.back().Edit(); }
};

struct SlotRecord {
  std::string id, kind, device_name, uuid;
  int64_t memory_bytes = 0;
  int threads = 0;
  bool operator==(const SlotRecord&) const = default;
};

struct RootRecord {
  std::string name, id, path;
  int64_t free_bytes = 0, total_bytes = 0;  // Volatile.
  bool operator==(const RootRecord&) const = default;
};

// Ranks that p2d gave up (their worker was silent for too long, or p2d never knew them) and that may run on. They hold
// their slots until the worker says that they ended; with no slots named, the whole worker.
struct Orphan {
  std::string job;
  int64_t epoch = 0;
  std::vector<std::string> slots;
  bool operator==(const Orphan&) const = default;
};

// On disk: do not change values. The numbers of p2.v1.Worker.State.
enum class WorkerState { kUnspecified = 0, kReady = 1, kSuspect = 2, kLost = 3 };

// A critical error that the driver reported of a GPU, `count` times since its worker started. device_faults.h.
struct DeviceFault {
  std::string slot;
  int xid = 0;
  int64_t count = 1;
  bool operator==(const DeviceFault&) const = default;
};

struct WorkerRecord {
  std::string id;
  WorkerState state = WorkerState::kReady;
  bool cordoned = false, draining = false;
  std::string cordon_reason;
  std::vector<SlotRecord> slots;
  std::vector<RootRecord> roots;
  std::string host, data_address, version, instance;
  int protocol_version = 0;
  std::map<std::string, std::string> labels;
  std::vector<Orphan> orphans;
  absl::Duration drain_within = absl::InfiniteDuration();  // While draining: what still runs then is killed.
  absl::Time drain_by_mono = absl::InfiniteFuture();       // Volatile. When that is.
  std::vector<std::string> failed_jobs;                    // Whose last attempt broke there, since one went well there.
  std::vector<DeviceFault> device_faults;                  // Of `instance`, those that speak against the node.
  std::string spool_id;
  uint64_t spool_acked = 0;                               // Highest sequence of spool_id that is taken.
  absl::Time last_heartbeat_time = absl::InfinitePast();  // Volatile.
  absl::Time last_seen_mono = absl::InfinitePast();       // Volatile.
  int64_t session = 0;                                    // Volatile. Of the stream that stands; 0: none.
  uint64_t spool_last = 0;  // Volatile. Of Hello; `missing` members end when it is reached.
  bool operator==(const WorkerRecord&) const = default;
};

struct DatasetRecord {
  std::string id, root, root_id, path;
  int resolution = 0, channels = 0;
  int64_t image_count = 0, size_bytes = 0, bad_image_count = 0;
  std::string fingerprint;
  absl::Time create_time = absl::InfinitePast();
  bool operator==(const DatasetRecord&) const = default;
};

// On disk: do not change values. The numbers of p2.v1.Checkpoint.State.
enum class CheckpointState { kUnspecified = 0, kPending = 1, kCommitted = 2, kCorrupt = 3, kDeleting = 4 };

struct CheckpointFile {
  std::string path;
  int64_t size_bytes = 0;
  std::string sha256;
  bool operator==(const CheckpointFile&) const = default;
};

struct CheckpointRecord {
  std::string job, id;  // The ID is the directory's name.
  CheckpointState state = CheckpointState::kPending;
  int64_t images_seen = 0, epoch = 0;
  int attempt = 0;
  std::string root, root_id, path;  // `path`: of the directory, below the root.
  int64_t size_bytes = 0;
  std::vector<CheckpointFile> files;
  std::vector<std::string> ema_profiles;
  std::string manifest_sha256;
  absl::Time create_time = absl::InfinitePast();
  bool pinned = false;
  std::string pin_note;
  std::optional<double> metric;  // JobNeeds.keep_best_metric as last reported before it.
  bool operator==(const CheckpointRecord&) const = default;
};

// A directory that some worker which sees the root has yet to delete. Outlives its job.
struct Deletion {
  std::string root_id, path;
  // The checkpoint's record, deleted once the bytes are gone; no checkpoint: something else of the job.
  std::string job, checkpoint;
  std::string asked;                             // Volatile. The worker that is to do it; empty: none can, as yet.
  absl::Time retry_mono = absl::InfinitePast();  // Volatile. When it is asked again.
  bool operator==(const Deletion&) const = default;
};

struct ArtifactRecord {
  std::string job, id;  // The ID is the file's name.
  std::string kind, content_type;
  int64_t size_bytes = 0;
  std::string sha256;
  int64_t images_seen = 0;
  int attempt = 0;
  absl::Time create_time = absl::InfinitePast();
  bool operator==(const ArtifactRecord&) const = default;
};

struct EventRecord {
  int64_t revision = 0;  // Rising, without gaps.
  absl::Time time;
  std::string resource;  // `jobs/{job}`, `workers/{worker}`, `datasets/{dataset}`.
  std::string reason;    // UPPER_SNAKE.
  std::string message;
  std::string actor;  // `user:{name}`, `workers/{worker}`, `p2d`.
  // Of what people changed: the request_id, and what it was and is, `priority 0` and `priority 5`.
  std::string request_id, before, after;
  bool operator==(const EventRecord&) const = default;
};

// What a request_id was used for: the same payload gets the same answer.
struct RequestRecord {
  std::string request_id;
  std::string payload_sha256;
  std::string resource;  // Of the answer: `jobs/{job}`, `workers/{worker}`, `datasets/{dataset}`.
  absl::Time time = absl::InfinitePast();
  bool operator==(const RequestRecord&) const = default;
};

// Between neighbours there is room for 20 halvings.
constexpr int64_t DefaultOrderKey(int64_t create_order) { return create_order << 20; }

// Whose device time is counted: `{project}` and `{project}/{owner}`. A person's share is within the project.
struct ShareRecord {
  std::string id;
  double weight = 1;  // > 0.
  // Device-seconds, halved every StepOptions.share_half_life; as of `as_of_mono`, from when `devices` count.
  double usage = 0;
  absl::Time as_of_mono = absl::InfinitePast();  // Volatile.
  int devices = 0;                               // Volatile. Held now.
  bool operator==(const ShareRecord&) const = default;
};

// Limits of `projects/{project}` or `users/{owner}`; nullopt: none.
struct QuotaRecord {
  std::string id;
  std::optional<int> devices;      // Held at once, for certain.
  int borrow = 0;                  // Beyond them while nobody within quota waits for devices; -1: any number.
  std::optional<int> queued_jobs;  // QUEUED and PAUSED at once.
  bool operator==(const QuotaRecord&) const = default;
};

// A named set of workers: those with these labels. `default` is there without a record, and has all.
struct QueueRecord {
  std::string id;
  std::map<std::string, std::string> selector;
  std::string description;
  absl::Time create_time = absl::InfinitePast();
  bool operator==(const QueueRecord&) const = default;
};
inline constexpr absl::string_view kDefaultQueue = "default";

// Devices that are kept for a queued job. Volatile: found anew after a restart.
struct Reservation {
  std::string job;
  // When it can start if what runs ends as predicted; InfiniteFuture if that is not known.
  absl::Time start_mono = absl::InfiniteFuture();
  std::vector<RankPlacement> ranks;
  bool preempting = false;  // Attempts were told to make room for it.
  absl::Time made_mono = absl::InfinitePast();
  bool operator==(const Reservation&) const = default;
};

// Why none of the jobs of a shape (QueueIndex::ShapeId) can start, as the last pass found. Holds for jobs that come
// while nothing else changes.
struct Blocked {
  StatusReason reason = StatusReason::kUnspecified;
  std::string message;
  bool operator==(const Blocked&) const = default;
};
// Classes of slots (SlotIndex::ClassId) on which ranks of one shape may run, and those on which they might if all
// workers saw its roots.
struct ShapeClasses {
  std::vector<int> classes, but_for_roots;
};
struct PassMemo {
  struct Shape {
    int64_t serial = 0;                           // QueueIndex::Shape.serial: the ID may be another shape's by now.
    std::shared_ptr<const Blocked> blocked;       // Null if nothing blocked it.
    std::shared_ptr<const ShapeClasses> classes;  // Null if not known.
  };
  std::vector<Shape> shapes;       // By QueueIndex::ShapeId.
  int64_t classes_generation = 0;  // ClusterState::classes_generation() that `classes` are true of.
  int least_priority = 0;          // Of jobs that have devices reserved: a new job above it may come before them.
  // Somebody waits first for devices of which nobody knows when they come: nothing is reserved for that job.
  bool plans_missing = false;
  // Priority, project and owner of those whom a quota held back. Sorted.
  std::vector<std::tuple<int, std::string, std::string>> over_quota;

  // Null: it is not among them.
  const Shape* Find(int shape, int64_t serial) const {
    if (static_cast<size_t>(shape) >= shapes.size() || shapes[shape].serial != serial) return nullptr;
    return &shapes[shape];
  }
};

// What a scheduling pass is due for; the higher includes the lower.
enum class PassNeed {
  kNone,
  kIfDevicesSuit,  // Free devices came, and nothing else changed: a pass is needed if some shape that waits might fit.
  kFull,
};

using JobPtr = std::shared_ptr<const JobRecord>;
using QueuePtr = std::shared_ptr<const QueueRecord>;
using WorkerPtr = std::shared_ptr<const WorkerRecord>;
using CheckpointPtr = std::shared_ptr<const CheckpointRecord>;
using DatasetPtr = std::shared_ptr<const DatasetRecord>;

}  // namespace p2::scheduler
