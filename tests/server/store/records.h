// Records with every member set, for round trips.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "server/scheduler/action.h"
#include "server/scheduler/types.h"

namespace p2::store {

inline const absl::Time kStart = absl::FromUnixSeconds(1'790'000'000);

inline scheduler::JobRecord FullJob(std::string id, scheduler::JobState state = scheduler::JobState::kRunning) {
  scheduler::Attempt attempt;
  attempt.number = 2;
  attempt.epoch = 7;
  attempt.outcome = scheduler::Outcome::kFailed;
  attempt.reason = scheduler::StatusReason::kRankDied;
  attempt.message = "rank 1 died";
  attempt.create_time = kStart + absl::Seconds(1);
  attempt.start_time = kStart + absl::Seconds(2);
  attempt.end_time = kStart + absl::Seconds(3);
  attempt.exit_code = 137;
  attempt.start_images_seen = 100;
  attempt.end_images_seen = 200;
  attempt.resumed_from = "000000000100-e1";
  attempt.ranks = {{.rank = 0, .worker = "w0", .slot = "cpu:0"}, {.rank = 1, .worker = "w1", .slot = "cpu:3"}};
  attempt.fingerprint = {{"torch", "2.11"}};
  attempt.members = {{.worker = "w0", .state = scheduler::MemberState::kStarted, .missing = true}};
  attempt.master_address = "10.0.0.1";
  attempt.master_port = 4000;
  attempt.resume_candidates = {"000000000100-e1", "000000000050-e1"};
  attempt.stop_mode = scheduler::StopMode::kCheckpoint;
  attempt.reported_done = true;
  attempt.reported_stopped = true;
  attempt.backfill = true;
  scheduler::JobRecord job;
  job.id = std::move(id);
  job.state = state;
  job.reason = scheduler::StatusReason::kBackoff;
  job.message = "waits\nfor \"it\"";
  job.needs = scheduler::JobNeeds{.devices = 2,
                                  .devices_min = 1,
                                  .kind = "cpu",
                                  .device_memory_min = int64_t{1} << 40,
                                  .selector = {{"pool", "gold"}},
                                  .preemptible = false,
                                  .dataset = "mnist",
                                  .dataset_root = "data",
                                  .dataset_root_id = "u-1",
                                  .dataset_path = "mnist-28",
                                  .dataset_fingerprint = "ff",
                                  .checkpoint_root = "ckpt",
                                  .checkpoint_root_id = "u-2",
                                  .keep_last = 5,
                                  .keep_every = 1000,
                                  .keep_best = 2,
                                  .keep_best_metric = "loss",
                                  .restart_budget = 4,
                                  .backoff_initial = absl::Milliseconds(1500),
                                  .backoff_max = absl::Seconds(90),
                                  .stop_deadline = absl::Seconds(30),
                                  .images_total = 10'000,
                                  .source = {.root = "data",
                                             .root_id = "u-1",
                                             .path = "jobs/other/checkpoints/000000000050-e1",
                                             .job = "other",
                                             .checkpoint = "000000000050-e1",
                                             .images_seen = 50,
                                             .is_run = true},
                                  .writes_output = true,
                                  .bitwise = true};
  scheduler::JobDetails& details = job.details.Edit();
  details.preset = "ffhq-gamma0.5";
  details.spec_sha256 = "aa";
  details.origins_sha256 = "bb";
  details.task = std::string("\x0a\x00", 2);
  details.labels = {{"team", "vision"}};
  details.owner = "ann";
  details.project = "default";
  details.queue = "default";
  details.lineage = {scheduler::Lineage::Kind::kFork, "other", "000000000050-e1"};
  details.note = "try \"again\"";
  job.numerics_device = "NVIDIA H100";
  job.numerics_version = "0.1.0";
  job.priority = -3;
  job.request_id = "r-1";
  job.create_order = 42;
  job.create_time = kStart;
  job.start_time = kStart + absl::Seconds(1);
  job.end_time = kStart + absl::Seconds(4);
  job.update_time = kStart + absl::Seconds(5);
  job.not_before = kStart + absl::Seconds(6);
  job.backoff = absl::Seconds(6);
  job.progress = {.images_seen = 150, .images_per_second = 12.5, .loss = 0.25, .phase = "step"};
  job.attempts = {scheduler::Attempt{.number = 1}, attempt};
  job.epoch = 7;
  job.attempt_count = 2;
  job.restarts_used = 1;
  job.consecutive_failures = 2;
  job.latest_checkpoint = "000000000100-e1";
  job.skipped_ranges = {{800, 824}, {1000, 1024}};
  job.stop_cause = scheduler::StopCause::kYield;
  job.order_key = 41;
  job.preemptions = 3;
  job.churn = 2;
  job.device_rate = 6.25;
  job.revision = 99;
  return job;
}

inline scheduler::WorkerRecord FullWorker(std::string id) {
  scheduler::WorkerRecord worker;
  worker.id = std::move(id);
  worker.state = scheduler::WorkerState::kLost;
  worker.cordoned = worker.draining = true;
  worker.cordon_reason = "repair";
  worker.slots = {
      {.id = "cuda:0", .kind = "cuda", .device_name = "H200", .uuid = "GPU-1", .memory_bytes = 5, .threads = 4}};
  worker.roots = {{.name = "data", .id = "u-1", .path = "/mnt/data", .free_bytes = 1, .total_bytes = 2}};
  worker.host = "node-1";
  worker.data_address = "10.0.0.1";
  worker.version = "0.1.0";
  worker.instance = "i-1";
  worker.protocol_version = 1;
  worker.labels = {{"zone", "a"}};
  worker.orphans = {{.job = "job-a", .epoch = 3, .slots = {"cuda:0"}}, {.job = "job-b", .epoch = 1}};
  worker.spool_id = "s-1";
  worker.spool_acked = 12;
  worker.failed_jobs = {"job-c"};
  worker.device_faults = {{.slot = "cuda:0", .xid = 79, .count = 3}};
  worker.drain_within = absl::Minutes(5);
  return worker;
}

inline scheduler::CheckpointRecord FullCheckpoint(std::string job, std::string id) {
  return {.job = std::move(job),
          .id = std::move(id),
          .state = scheduler::CheckpointState::kCommitted,
          .images_seen = 100,
          .epoch = 3,
          .attempt = 2,
          .root = "ckpt",
          .root_id = "u-2",
          .path = "p2/job-a/000000000100-e3",
          .size_bytes = 77,
          .files = {{.path = "model.safetensors", .size_bytes = 70, .sha256 = "ab"}},
          .ema_profiles = {"0.9999", "fast"},
          .manifest_sha256 = "cd",
          .create_time = kStart,
          .pinned = true,
          .pin_note = "for the paper",
          .metric = 0.25};
}

inline scheduler::DatasetRecord FullDataset(std::string id) {
  return {.id = std::move(id),
          .root = "data",
          .root_id = "u-1",
          .path = "mnist-28",
          .resolution = 28,
          .channels = 1,
          .image_count = 5000,
          .size_bytes = 3'920'000,
          .bad_image_count = 2,
          .fingerprint = "ff",
          .create_time = kStart};
}

inline scheduler::ArtifactRecord FullArtifact(std::string job, std::string id) {
  return {.job = std::move(job),
          .id = std::move(id),
          .kind = "samples",
          .content_type = "image/png",
          .size_bytes = 11,
          .sha256 = "ee",
          .images_seen = 100,
          .attempt = 2,
          .create_time = kStart};
}

inline scheduler::EventRecord FullEvent(int64_t revision, std::string resource) {
  return {.revision = revision,
          .time = kStart,
          .resource = std::move(resource),
          .reason = "JOB_STATE",
          .message = "QUEUED to STARTING",
          .actor = "p2d",
          .request_id = "r-1",
          .before = "priority 0",
          .after = "priority 5"};
}

inline scheduler::PutJob Put(scheduler::JobRecord job) {
  return {.job = std::make_shared<const scheduler::JobRecord>(std::move(job))};
}
inline scheduler::PutWorker Put(scheduler::WorkerRecord worker) {
  return {.worker = std::make_shared<const scheduler::WorkerRecord>(std::move(worker))};
}
inline scheduler::PutDataset Put(scheduler::DatasetRecord dataset) {
  return {.dataset = std::make_shared<const scheduler::DatasetRecord>(std::move(dataset))};
}
inline scheduler::PutCheckpoint Put(scheduler::CheckpointRecord checkpoint) {
  return {.checkpoint = std::make_shared<const scheduler::CheckpointRecord>(std::move(checkpoint))};
}

}  // namespace p2::store
