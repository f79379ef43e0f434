// Every Prometheus series that p2's daemons serve (CLI.md); docs/metrics.md says what each means. Tests compare this
// table with that page and with what p2d and p2-worker expose.
// Base units, `_total` for counters, label values bounded. A job is `job_id`: Prometheus itself owns `job`.
#pragma once

namespace p2::metric {

// Queue.
inline constexpr char kJobs[] = "p2_jobs";
inline constexpr char kPendingJobs[] = "p2_pending_jobs";
inline constexpr char kPendingDevices[] = "p2_pending_devices";
inline constexpr char kQueueWaitSeconds[] = "p2_queue_wait_seconds";
inline constexpr char kGangStartSeconds[] = "p2_gang_start_seconds";
inline constexpr char kSchedulerCycleSeconds[] = "p2_scheduler_cycle_seconds";
inline constexpr char kAdmissionsTotal[] = "p2_admissions_total";
inline constexpr char kPreemptionsTotal[] = "p2_preemptions_total";
inline constexpr char kPreemptedLostImagesTotal[] = "p2_preempted_lost_images_total";
inline constexpr char kFairShareRatio[] = "p2_fair_share_ratio";
inline constexpr char kQuotaDevices[] = "p2_quota_devices";
inline constexpr char kLedgerDrift[] = "p2_ledger_drift";

// Train: live jobs only, at most kMaxJobSeries of them.
inline constexpr char kImagesSeen[] = "p2_images_seen";
inline constexpr char kImagesPerSecond[] = "p2_images_per_second";
inline constexpr char kStep[] = "p2_step";
inline constexpr char kStepSeconds[] = "p2_step_seconds";
inline constexpr char kLoss[] = "p2_loss";
inline constexpr char kLossSnr[] = "p2_loss_snr";
inline constexpr char kGradNorm[] = "p2_grad_norm";
inline constexpr char kEmaDistance[] = "p2_ema_distance";
inline constexpr char kNonfiniteStepsTotal[] = "p2_nonfinite_steps_total";
inline constexpr char kRestartsTotal[] = "p2_restarts_total";
inline constexpr char kImagesTotal[] = "p2_images_total";
inline constexpr char kGpuSecondsTotal[] = "p2_gpu_seconds_total";
inline constexpr int kMaxJobSeries = 256;

// Checkpoint.
inline constexpr char kCheckpointStallSeconds[] = "p2_checkpoint_stall_seconds";
inline constexpr char kCheckpointDurableLagSeconds[] = "p2_checkpoint_durable_lag_seconds";
inline constexpr char kCheckpointBytes[] = "p2_checkpoint_bytes";
inline constexpr char kCheckpointFailuresTotal[] = "p2_checkpoint_failures_total";
inline constexpr char kGcDeletedBytesTotal[] = "p2_gc_deleted_bytes_total";

// Cluster.
inline constexpr char kNodes[] = "p2_nodes";
inline constexpr char kDevices[] = "p2_devices";
inline constexpr char kWorkerHeartbeatAgeSeconds[] = "p2_worker_heartbeat_age_seconds";
inline constexpr char kLeaseEpochConflictsTotal[] = "p2_lease_epoch_conflicts_total";
inline constexpr char kWorkerConnected[] = "p2_worker_connected";
inline constexpr char kWorkerSpoolBytes[] = "p2_worker_spool_bytes";

// Control.
inline constexpr char kRpcHandledTotal[] = "grpc_server_handled_total";
inline constexpr char kRpcHandlingSeconds[] = "grpc_server_handling_seconds";
inline constexpr char kWatchers[] = "p2_watchers";
inline constexpr char kStoreWriteSeconds[] = "p2_store_write_seconds";
inline constexpr char kStoreStallsTotal[] = "p2_store_stalls_total";
inline constexpr char kStoreFreeBytes[] = "p2_store_free_bytes";
inline constexpr char kStoreBackgroundError[] = "p2_store_background_error";
inline constexpr char kBuildInfo[] = "p2_build_info";
inline constexpr char kProcessStartTimeSeconds[] = "process_start_time_seconds";

enum class Type { kGauge, kCounter, kHistogram };

struct Series {
  const char* name;
  Type type;
  const char* labels;  // Separated by commas, sorted.
  bool of_p2d;
  bool of_worker;
};

inline constexpr Series kSeries[] = {
    {kJobs, Type::kGauge, "queue,state", true, false},
    {kPendingJobs, Type::kGauge, "queue,reason", true, false},
    {kPendingDevices, Type::kGauge, "kind", true, false},
    {kQueueWaitSeconds, Type::kHistogram, "", true, false},
    {kGangStartSeconds, Type::kHistogram, "", true, false},
    {kSchedulerCycleSeconds, Type::kHistogram, "", true, false},
    {kAdmissionsTotal, Type::kCounter, "", true, false},
    {kPreemptionsTotal, Type::kCounter, "reason", true, false},
    {kPreemptedLostImagesTotal, Type::kCounter, "", true, false},
    {kFairShareRatio, Type::kGauge, "project", true, false},
    {kQuotaDevices, Type::kGauge, "kind,project", true, false},
    {kLedgerDrift, Type::kGauge, "", true, false},
    {kImagesSeen, Type::kGauge, "job_id", true, false},
    {kImagesPerSecond, Type::kGauge, "job_id", true, false},
    {kStep, Type::kGauge, "job_id", true, false},
    {kStepSeconds, Type::kGauge, "job_id,phase", true, false},
    {kLoss, Type::kGauge, "job_id,kind", true, false},
    {kLossSnr, Type::kGauge, "bin,job_id", true, false},
    {kGradNorm, Type::kGauge, "job_id", true, false},
    {kEmaDistance, Type::kGauge, "job_id,profile", true, false},
    {kNonfiniteStepsTotal, Type::kCounter, "job_id", true, false},
    {kRestartsTotal, Type::kCounter, "class,job_id", true, false},
    {kImagesTotal, Type::kCounter, "", false, true},
    {kGpuSecondsTotal, Type::kCounter, "use", false, true},
    {kCheckpointStallSeconds, Type::kGauge, "job_id", true, false},
    {kCheckpointDurableLagSeconds, Type::kGauge, "job_id", true, false},
    {kCheckpointBytes, Type::kGauge, "job_id", true, false},
    {kCheckpointFailuresTotal, Type::kCounter, "", true, false},
    {kGcDeletedBytesTotal, Type::kCounter, "", false, true},
    {kNodes, Type::kGauge, "state", true, false},
    {kDevices, Type::kGauge, "kind,state", false, true},
    {kWorkerHeartbeatAgeSeconds, Type::kGauge, "worker", true, false},
    {kLeaseEpochConflictsTotal, Type::kCounter, "", true, false},
    {kWorkerConnected, Type::kGauge, "", false, true},
    {kWorkerSpoolBytes, Type::kGauge, "", false, true},
    {kRpcHandledTotal, Type::kCounter, "grpc_code,grpc_method,grpc_service", true, false},
    {kRpcHandlingSeconds, Type::kHistogram, "grpc_method,grpc_service", true, false},
    {kWatchers, Type::kGauge, "", true, false},
    {kStoreWriteSeconds, Type::kHistogram, "", true, false},
    {kStoreStallsTotal, Type::kCounter, "", true, false},
    {kStoreFreeBytes, Type::kGauge, "", true, false},
    {kStoreBackgroundError, Type::kGauge, "", true, false},
    {kBuildInfo, Type::kGauge, "version", true, true},
    {kProcessStartTimeSeconds, Type::kGauge, "", false, true},
};

}  // namespace p2::metric
