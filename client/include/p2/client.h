// The C++ client of p2: every public call of p2.v1, with deadlines, retries and resumption inside.
//
//   absl::StatusOr<std::unique_ptr<p2::Client>> client = p2::Client::Connect({.address = "127.0.0.1:7250"});
//   p2::v1::CreateJobRequest request;
//   request.set_preset("mnist-demo");
//   absl::StatusOr<p2::v1::CreateJobResponse> created = (*client)->CreateJob(request);
//
// Errors are the server's canonical codes and messages. Their google.rpc details are payloads of the status, keyed by
// type URL ("type.googleapis.com/google.rpc.BadRequest"). UNAVAILABLE: the server was not reached, retries included.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "p2/v1/admin_service.pb.h"
#include "p2/v1/artifact_service.pb.h"
#include "p2/v1/checkpoint_service.pb.h"
#include "p2/v1/cluster_service.pb.h"
#include "p2/v1/dataset_service.pb.h"
#include "p2/v1/event_service.pb.h"
#include "p2/v1/job_service.pb.h"
#include "p2/v1/log_service.pb.h"
#include "p2/v1/metric_service.pb.h"
#include "p2/v1/preset_service.pb.h"
#include "p2/v1/queue_service.pb.h"

namespace p2 {

struct ClientOptions {
  // host:port of p2d.
  std::string address = "127.0.0.1:7250";
  // Of a unary call, its retries included. REQUIRES: > 0.
  absl::Duration timeout = absl::Seconds(30);
  // Tries of a unary call that meets UNAVAILABLE. REQUIRES: >= 1.
  int max_attempts = 4;
  // Wait before the second try; doubles up to max_backoff; each wait is drawn from [half, whole].
  absl::Duration initial_backoff = absl::Milliseconds(100);
  absl::Duration max_backoff = absl::Seconds(3);
  // How long a stream goes on trying to come back to a server that is away.
  absl::Duration reconnect_for = absl::Minutes(5);
};

// A server's stream. Next() is called by one thread at a time; Cancel() by any.
template <typename Message>
class Stream {
 public:
  virtual ~Stream() = default;

  // Blocks for the next message; nullopt: the server ended the stream well. A lost connection is taken up again where
  // it broke, so that no message is missed or given twice. CANCELLED after Cancel(); UNAVAILABLE once the server has
  // been away for `reconnect_for`. After nullopt or an error the stream is over.
  virtual absl::StatusOr<std::optional<Message>> Next() = 0;

  // Ends a Next() that waits, and every later one.
  virtual void Cancel() = 0;
};

// Thread-safe.
//
// Calls that change something get a `request_id` where the request brings none, so that a retry does the thing once.
class Client {
 public:
  // Does no I/O; the first call connects. INVALID_ARGUMENT: options out of range, or an address without a port.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(ClientOptions options = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  const ClientOptions& options() const;

  // Jobs.
  absl::StatusOr<v1::CreateJobResponse> CreateJob(v1::CreateJobRequest request);
  absl::StatusOr<v1::Job> GetJob(const v1::GetJobRequest& request);
  absl::StatusOr<v1::ListJobsResponse> ListJobs(const v1::ListJobsRequest& request);
  absl::StatusOr<v1::Job> StopJob(v1::StopJobRequest request);
  absl::StatusOr<v1::Job> KillJob(v1::KillJobRequest request);
  absl::StatusOr<v1::Job> PauseJob(v1::PauseJobRequest request);
  absl::StatusOr<v1::Job> ResumeJob(v1::ResumeJobRequest request);
  absl::StatusOr<v1::DeleteJobResponse> DeleteJob(v1::DeleteJobRequest request);
  absl::StatusOr<v1::BatchCreateJobsResponse> BatchCreateJobs(v1::BatchCreateJobsRequest request);
  absl::StatusOr<v1::ControlJobsResponse> ControlJobs(v1::ControlJobsRequest request);
  absl::StatusOr<v1::Job> UpdateJob(v1::UpdateJobRequest request);
  absl::StatusOr<v1::JobExplanation> ExplainJob(const v1::ExplainJobRequest& request);
  // STATE and DELETED events; the server's signs of life are kept inside. When the revision to resume at is compacted
  // the present state is sent again, so a watcher must take STATE as "it stands so now".
  std::unique_ptr<Stream<v1::WatchJobsResponse>> WatchJobs(const v1::WatchJobsRequest& request);

  // Queues, fair shares and quotas.
  absl::StatusOr<v1::ListQueuesResponse> ListQueues(const v1::ListQueuesRequest& request = {});
  absl::StatusOr<v1::Queue> GetQueue(const v1::GetQueueRequest& request);
  absl::StatusOr<v1::Queue> CreateQueue(v1::CreateQueueRequest request);
  absl::StatusOr<v1::Queue> UpdateQueue(v1::UpdateQueueRequest request);
  absl::StatusOr<v1::DeleteQueueResponse> DeleteQueue(v1::DeleteQueueRequest request);
  absl::StatusOr<v1::QueueDescription> DescribeQueue(const v1::DescribeQueueRequest& request);
  absl::StatusOr<v1::Job> MoveJob(v1::MoveJobRequest request);
  absl::StatusOr<v1::ListQuotasResponse> ListQuotas(const v1::ListQuotasRequest& request = {});
  absl::StatusOr<v1::Quota> SetQuota(v1::SetQuotaRequest request);
  absl::StatusOr<v1::FairShare> SetWeight(v1::SetWeightRequest request);

  // Presets.
  absl::StatusOr<v1::ListPresetsResponse> ListPresets(const v1::ListPresetsRequest& request);
  absl::StatusOr<v1::Preset> GetPreset(const v1::GetPresetRequest& request);
  absl::StatusOr<v1::ResolvePresetResponse> ResolvePreset(const v1::ResolvePresetRequest& request);

  // Datasets.
  absl::StatusOr<v1::Dataset> RegisterDataset(v1::RegisterDatasetRequest request);
  absl::StatusOr<v1::Dataset> GetDataset(const v1::GetDatasetRequest& request);
  absl::StatusOr<v1::ListDatasetsResponse> ListDatasets(const v1::ListDatasetsRequest& request);

  // Metrics.
  absl::StatusOr<v1::QueryMetricsResponse> QueryMetrics(const v1::QueryMetricsRequest& request);
  std::unique_ptr<Stream<v1::StreamMetricsResponse>> StreamMetrics(const v1::StreamMetricsRequest& request);

  // Logs. Each message holds lines that were not given before.
  std::unique_ptr<Stream<v1::ReadLogsResponse>> ReadLogs(const v1::ReadLogsRequest& request);

  // Checkpoints.
  absl::StatusOr<v1::ListCheckpointsResponse> ListCheckpoints(const v1::ListCheckpointsRequest& request);
  absl::StatusOr<v1::Checkpoint> GetCheckpoint(const v1::GetCheckpointRequest& request);
  absl::StatusOr<v1::Checkpoint> PinCheckpoint(v1::PinCheckpointRequest request);
  absl::StatusOr<v1::DeleteCheckpointResponse> DeleteCheckpoint(v1::DeleteCheckpointRequest request);
  absl::StatusOr<v1::CollectCheckpointsResponse> CollectCheckpoints(v1::CollectCheckpointsRequest request);

  // Artifacts.
  absl::StatusOr<v1::ListArtifactsResponse> ListArtifacts(const v1::ListArtifactsRequest& request);
  // Writes the artifact `name` (`jobs/{job}/artifacts/{artifact}`) to `path` through a temporary file beside it: `path`
  // is whole or untouched. DATA_LOSS: size or SHA-256 differ from the record.
  absl::StatusOr<v1::Artifact> DownloadArtifact(absl::string_view name, const std::string& path);

  // The cluster.
  absl::StatusOr<v1::ServerInfo> GetServerInfo(const v1::GetServerInfoRequest& request = {});
  absl::StatusOr<v1::ListWorkersResponse> ListWorkers(const v1::ListWorkersRequest& request);
  absl::StatusOr<v1::ListRootsResponse> ListRoots(const v1::ListRootsRequest& request);
  absl::StatusOr<v1::Worker> CordonWorker(v1::CordonWorkerRequest request);
  absl::StatusOr<v1::Worker> UncordonWorker(v1::UncordonWorkerRequest request);
  absl::StatusOr<v1::Worker> DrainWorker(v1::DrainWorkerRequest request);

  // The server's store. CreateBackup and CheckStore take as long as reading all of it does.
  absl::StatusOr<v1::Status> GetStatus(const v1::GetStatusRequest& request = {});
  absl::StatusOr<v1::Backup> CreateBackup(v1::CreateBackupRequest request);
  absl::StatusOr<v1::CheckStoreResponse> CheckStore(const v1::CheckStoreRequest& request = {});

  // Events.
  absl::StatusOr<v1::ListEventsResponse> ListEvents(const v1::ListEventsRequest& request);
  std::unique_ptr<Stream<v1::Event>> FollowEvents(const v1::FollowEventsRequest& request);

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  const std::unique_ptr<Impl> impl_;
};

// The version of this library, "0.1.0".
absl::string_view ClientVersion();

}  // namespace p2
