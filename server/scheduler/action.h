// What Step() decides: mutations, written in one batch, then actions, performed in order.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "server/scheduler/types.h"

namespace p2::scheduler {

// --- Mutations. Those with durable == false change only the state in memory; the store skips them. ---
struct PutJob {
  JobPtr job;  // Never null. A terminal one belongs among the finished, any other among the live ones.
  bool durable = true;
};
struct EraseJob {  // With all its checkpoints' records, metrics, artifacts and logs.
  std::string job;
  int64_t revision = 0;  // Of the deletion, for watches.
};
struct PutSpec {  // Once by hash.
  std::string sha256, bytes;
};
struct PutWorker {
  WorkerPtr worker;
  bool durable = true;
};
struct PutDataset {
  DatasetPtr dataset;
};
struct PutCheckpoint {
  CheckpointPtr checkpoint;
};
struct EraseCheckpoint {
  std::string job, checkpoint;
};
struct PutDeletion {
  Deletion deletion;
  bool durable = true;
};
struct EraseDeletion {
  std::string root_id, path;
};
struct PutArtifact {
  ArtifactRecord artifact;
};
struct AppendEvent {
  EventRecord event;
};
struct PutRequest {
  RequestRecord request;
};
struct AppendMetrics {
  std::string job;
  int attempt = 0;
  uint64_t sequence = 0;  // Of rank 0's trainer: (job, attempt, sequence) is written once.
  int64_t images_seen = 0, step = 0;
  absl::Time time;  // By the trainer's clock.
  std::map<std::string, double> values;
  absl::Time received = absl::InfinitePast();  // By p2d's.
};
// Points of attempts before `attempt` with images_seen above `images_seen` are superseded.
struct SupersedeMetrics {
  std::string job;
  int attempt = 0;
  int64_t images_seen = 0;
};
// The worker's spool is taken up to `sequence`. Separate from PutWorker: it changes with every batch of records.
struct SetSpoolAck {
  std::string worker, spool_id;
  uint64_t sequence = 0;
};
// The counters behind JobRecord.revision, EventRecord.revision and JobRecord.create_order, as they stand after the
// batch.
struct SetCounters {
  int64_t job_revision = 0, event_revision = 0, create_order = 0;
};
// Not stored: whether admissions are stopped.
struct SetDiskFull {
  bool full = false;
  std::string message;
};

struct PutQueue {
  QueuePtr queue;
};
struct EraseQueue {
  std::string queue;
};
struct PutShare {
  ShareRecord share;
  bool durable = true;
};
struct PutQuota {
  QuotaRecord quota;
};
struct EraseQuota {
  std::string id;
};
// Not stored.
struct PutReservation {
  Reservation reservation;
};
struct EraseReservation {
  std::string job;
};
// Not stored: which scheduling pass is due.
struct SetPassDue {
  PassNeed need = PassNeed::kNone;
};
// Not stored: what the last full pass found.
struct PutPassMemo {
  std::shared_ptr<const PassMemo> memo;
};

using Mutation = std::variant<PutJob, EraseJob, PutSpec, PutWorker, PutDataset, PutCheckpoint, EraseCheckpoint,
                              PutDeletion, EraseDeletion, PutArtifact, AppendEvent, PutRequest, AppendMetrics,
                              SupersedeMetrics, SetSpoolAck, SetCounters, SetDiskFull, PutQueue, EraseQueue, PutShare,
                              PutQuota, EraseQuota, PutReservation, EraseReservation, SetPassDue, PutPassMemo>;

// False for what lives in memory only.
bool IsDurable(const Mutation& mutation);

// --- Actions: messages to workers. Idempotent; lost ones are issued again when the worker connects. ---
struct PlacedRank {
  int rank = 0;
  std::string slot;
  int local_rank = 0;
  bool operator==(const PlacedRank&) const = default;
};

struct Prepare {
  std::string worker, job;
  int64_t epoch = 0;
  int attempt = 0;
  int world_size = 0;
  std::vector<PlacedRank> ranks;
  std::string dataset_root, dataset_root_id, dataset_path, dataset_fingerprint;
  std::string checkpoint_root, checkpoint_root_id;
  std::string source_root, source_root_id, source_path;
  bool writes_output = false;
  bool operator==(const Prepare&) const = default;
};

struct StartGang {
  std::string worker, job;
  int64_t epoch = 0;
  int attempt = 0;
  std::string master_address;
  int master_port = 0;
  std::string spec_sha256;
  std::string task;  // As JobRecord.task.
  std::string dataset_fingerprint;
  std::vector<std::string> resume_candidates;  // Checkpoint IDs, best first.
  bool source_is_run = false;                  // As JobSource.is_run.
  std::vector<SampleRange> skipped_ranges;
  bool operator==(const StartGang&) const = default;
};

struct StopAttempt {
  std::string worker, job;
  int64_t epoch = 0;
  StopMode mode = StopMode::kKill;
  bool operator==(const StopAttempt&) const = default;
};

struct DeletePath {
  std::string worker, root_id, path;
  bool operator==(const DeletePath&) const = default;
};

using Action = std::variant<Prepare, StartGang, StopAttempt, DeletePath>;

}  // namespace p2::scheduler
