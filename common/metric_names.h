// The names of every Prometheus series that p2's daemons serve (CLI.md); a test compares them with deploy/.
// Base units, `_total` for counters, label values bounded. A job is `job_id`: Prometheus itself owns `job`.
#pragma once

namespace p2::metric {

// Queue.
inline constexpr char kJobs[] = "p2_jobs";                            // {state, queue}
inline constexpr char kPendingJobs[] = "p2_pending_jobs";             // {queue, reason}
inline constexpr char kQueueWaitSeconds[] = "p2_queue_wait_seconds";  // histogram
inline constexpr char kGangStartSeconds[] = "p2_gang_start_seconds";  // histogram
inline constexpr char kAdmissionsTotal[] = "p2_admissions_total";

// Train: live jobs only, at most kMaxJobSeries of them.
inline constexpr char kImagesSeen[] = "p2_images_seen";             // {job_id}
inline constexpr char kImagesPerSecond[] = "p2_images_per_second";  // {job_id}
inline constexpr char kStep[] = "p2_step";                          // {job_id}
inline constexpr char kLoss[] = "p2_loss";                          // {job_id, kind}
inline constexpr char kLossSnr[] = "p2_loss_snr";                   // {job_id, bin}
inline constexpr char kGradNorm[] = "p2_grad_norm";                 // {job_id}
inline constexpr char kRestartsTotal[] = "p2_restarts_total";       // {class}
inline constexpr int kMaxJobSeries = 256;

// Cluster.
inline constexpr char kNodes[] = "p2_nodes";                                             // {state}
inline constexpr char kDevices[] = "p2_devices";                                         // {kind, state}
inline constexpr char kWorkerHeartbeatAgeSeconds[] = "p2_worker_heartbeat_age_seconds";  // {worker}
inline constexpr char kLeaseEpochConflictsTotal[] = "p2_lease_epoch_conflicts_total";

// Control.
inline constexpr char kRpcHandledTotal[] = "grpc_server_handled_total";        // {grpc_service, grpc_method, grpc_code}
inline constexpr char kRpcHandlingSeconds[] = "grpc_server_handling_seconds";  // {grpc_service, grpc_method}
inline constexpr char kWatchers[] = "p2_watchers";
inline constexpr char kStoreWriteSeconds[] = "p2_store_write_seconds";  // histogram
inline constexpr char kStoreFreeBytes[] = "p2_store_free_bytes";
inline constexpr char kBuildInfo[] = "p2_build_info";  // {version}

}  // namespace p2::metric
