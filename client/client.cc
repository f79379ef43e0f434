#include "p2/client.h"

#include <grpcpp/grpcpp.h>
#include <pwd.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/download.h"
#include "client/retry_policy.h"
#include "client/watch_reader.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "p2/v1/admin_service.grpc.pb.h"
#include "p2/v1/artifact_service.grpc.pb.h"
#include "p2/v1/checkpoint_service.grpc.pb.h"
#include "p2/v1/cluster_service.grpc.pb.h"
#include "p2/v1/dataset_service.grpc.pb.h"
#include "p2/v1/event_service.grpc.pb.h"
#include "p2/v1/job_service.grpc.pb.h"
#include "p2/v1/log_service.grpc.pb.h"
#include "p2/v1/metric_service.grpc.pb.h"
#include "p2/v1/preset_service.grpc.pb.h"
#include "p2/v1/queue_service.grpc.pb.h"

namespace p2 {
namespace {

// Answers may be large (all points of a long run); requests are not.
constexpr int kMaxReceiveBytes = 256 << 20;
// Artifacts have at most 32 MiB.
constexpr int kDownloadTimeoutFactor = 10;

absl::Status CheckOptions(const ClientOptions& options) {
  const size_t colon = options.address.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 || !absl::SimpleAtoi(options.address.substr(colon + 1), &port) ||
      port < 1 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("server address \"", options.address, "\" is not HOST:PORT (for example 127.0.0.1:7250)"));
  }
  if (options.timeout <= absl::ZeroDuration() || options.max_attempts < 1 ||
      options.initial_backoff <= absl::ZeroDuration() || options.max_backoff < options.initial_backoff) {
    return absl::InvalidArgumentError(
        "client options: timeout and initial_backoff must be positive, max_attempts at least 1, "
        "max_backoff at least initial_backoff");
  }
  return absl::OkStatus();
}

std::shared_ptr<grpc::Channel> MakeChannel(const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  // The retries of RetryPolicy and WatchReader replace gRPC's own; the channel must not back off longer than they do.
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(options.initial_backoff)));
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, static_cast<int>(absl::ToInt64Milliseconds(options.max_backoff)));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, static_cast<int>(absl::ToInt64Milliseconds(options.max_backoff)));
  arguments.SetMaxReceiveMessageSize(kMaxReceiveBytes);
  arguments.SetUserAgentPrefix(absl::StrCat("p2-client/", ClientVersion()));
  return grpc::CreateCustomChannel(options.address, grpc::InsecureChannelCredentials(), arguments);
}

std::string NewRequestId() {
  uuid_t id;
  uuid_generate_random(id);
  char text[37];
  uuid_unparse_lower(id, text);
  return text;
}

std::string UserName() {
  const passwd* entry = getpwuid(geteuid());
  std::string name = entry != nullptr ? entry->pw_name : absl::StrCat("uid-", geteuid());
  // It travels as metadata too, where only ASCII may stand.
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !absl::ascii_isgraph(c); }, '?');
  return name;
}

template <typename Request>
Request WithRequestId(Request request) {
  if (request.request_id().empty()) request.set_request_id(NewRequestId());
  return request;
}

}  // namespace

struct Client::Impl {
  explicit Impl(ClientOptions client_options)
      : options(std::move(client_options)),
        channel(MakeChannel(options)),
        user(UserName()),
        jobs(v1::JobService::NewStub(channel)),
        queues(v1::QueueService::NewStub(channel)),
        presets(v1::PresetService::NewStub(channel)),
        datasets(v1::DatasetService::NewStub(channel)),
        metrics(v1::MetricService::NewStub(channel)),
        logs(v1::LogService::NewStub(channel)),
        checkpoints(v1::CheckpointService::NewStub(channel)),
        artifacts(v1::ArtifactService::NewStub(channel)),
        cluster(v1::ClusterService::NewStub(channel)),
        admin(v1::AdminService::NewStub(channel)),
        events(v1::EventService::NewStub(channel)) {}

  // Runs `attempt(deadline)` until it succeeds, fails for good, or its time is over.
  template <typename Attempt>
  absl::Status Retry(absl::Duration timeout, Attempt attempt) const {
    const absl::Time deadline = absl::Now() + timeout;
    client::RetryPolicy policy(options.max_attempts, client::Backoff(options.initial_backoff, options.max_backoff));
    while (true) {
      const absl::Status status = attempt(deadline);
      if (status.ok()) return status;
      const std::optional<absl::Duration> wait = policy.NextWait(status, deadline - absl::Now());
      if (!wait.has_value()) return status;
      absl::SleepFor(*wait);
    }
  }

  template <typename Stub, typename Request, typename Response>
  absl::StatusOr<Response> Call(const std::unique_ptr<Stub>& stub,
                                grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                                const Request& request) const {
    Response response;
    P2_RETURN_IF_ERROR(Retry(options.timeout, [&](absl::Time deadline) {
      grpc::ClientContext context;
      context.set_deadline(absl::ToChronoTime(deadline));
      context.AddMetadata("p2-user", user);
      response.Clear();
      return FromGrpcStatus(((*stub).*method)(&context, request, &response));
    }));
    return response;
  }

  const ClientOptions options;
  const std::shared_ptr<grpc::Channel> channel;
  // Who it is, unverified: the owner of jobs and the actor of events.
  const std::string user;
  const std::unique_ptr<v1::JobService::Stub> jobs;
  const std::unique_ptr<v1::QueueService::Stub> queues;
  const std::unique_ptr<v1::PresetService::Stub> presets;
  const std::unique_ptr<v1::DatasetService::Stub> datasets;
  const std::unique_ptr<v1::MetricService::Stub> metrics;
  const std::unique_ptr<v1::LogService::Stub> logs;
  const std::unique_ptr<v1::CheckpointService::Stub> checkpoints;
  const std::unique_ptr<v1::ArtifactService::Stub> artifacts;
  const std::unique_ptr<v1::ClusterService::Stub> cluster;
  const std::unique_ptr<v1::AdminService::Stub> admin;
  const std::unique_ptr<v1::EventService::Stub> events;
};

absl::StatusOr<std::unique_ptr<Client>> Client::Connect(ClientOptions options) {
  P2_RETURN_IF_ERROR(CheckOptions(options));
  return std::unique_ptr<Client>(new Client(std::make_unique<Impl>(std::move(options))));
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

const ClientOptions& Client::options() const { return impl_->options; }

absl::string_view ClientVersion() { return P2_VERSION; }

// The unary calls: those that only read, and those that carry a request_id.
#define P2_READ(stub, Service, Method, Request, Response)                   \
  absl::StatusOr<v1::Response> Client::Method(const v1::Request& request) { \
    return impl_->Call(impl_->stub, &v1::Service::Stub::Method, request);   \
  }
#define P2_CHANGE(stub, Service, Method, Request, Response)                                         \
  absl::StatusOr<v1::Response> Client::Method(v1::Request request) {                                \
    return impl_->Call(impl_->stub, &v1::Service::Stub::Method, WithRequestId(std::move(request))); \
  }

P2_READ(jobs, JobService, GetJob, GetJobRequest, Job)
P2_READ(jobs, JobService, ListJobs, ListJobsRequest, ListJobsResponse)
P2_CHANGE(jobs, JobService, StopJob, StopJobRequest, Job)
P2_CHANGE(jobs, JobService, KillJob, KillJobRequest, Job)
P2_CHANGE(jobs, JobService, PauseJob, PauseJobRequest, Job)
P2_CHANGE(jobs, JobService, ResumeJob, ResumeJobRequest, Job)
P2_CHANGE(jobs, JobService, DeleteJob, DeleteJobRequest, DeleteJobResponse)
P2_CHANGE(jobs, JobService, ControlJobs, ControlJobsRequest, ControlJobsResponse)
P2_CHANGE(jobs, JobService, UpdateJob, UpdateJobRequest, Job)
P2_READ(jobs, JobService, ExplainJob, ExplainJobRequest, JobExplanation)
P2_READ(queues, QueueService, ListQueues, ListQueuesRequest, ListQueuesResponse)
P2_READ(queues, QueueService, GetQueue, GetQueueRequest, Queue)
P2_CHANGE(queues, QueueService, CreateQueue, CreateQueueRequest, Queue)
P2_CHANGE(queues, QueueService, UpdateQueue, UpdateQueueRequest, Queue)
P2_CHANGE(queues, QueueService, DeleteQueue, DeleteQueueRequest, DeleteQueueResponse)
P2_READ(queues, QueueService, DescribeQueue, DescribeQueueRequest, QueueDescription)
P2_CHANGE(queues, QueueService, MoveJob, MoveJobRequest, Job)
P2_READ(queues, QueueService, ListQuotas, ListQuotasRequest, ListQuotasResponse)
P2_CHANGE(queues, QueueService, SetQuota, SetQuotaRequest, Quota)
P2_CHANGE(queues, QueueService, SetWeight, SetWeightRequest, FairShare)
P2_READ(presets, PresetService, ListPresets, ListPresetsRequest, ListPresetsResponse)
P2_READ(presets, PresetService, GetPreset, GetPresetRequest, Preset)
P2_READ(presets, PresetService, ResolvePreset, ResolvePresetRequest, ResolvePresetResponse)
P2_CHANGE(datasets, DatasetService, RegisterDataset, RegisterDatasetRequest, Dataset)
P2_READ(datasets, DatasetService, GetDataset, GetDatasetRequest, Dataset)
P2_READ(datasets, DatasetService, ListDatasets, ListDatasetsRequest, ListDatasetsResponse)
P2_READ(metrics, MetricService, QueryMetrics, QueryMetricsRequest, QueryMetricsResponse)
P2_READ(checkpoints, CheckpointService, ListCheckpoints, ListCheckpointsRequest, ListCheckpointsResponse)
P2_READ(checkpoints, CheckpointService, GetCheckpoint, GetCheckpointRequest, Checkpoint)
P2_CHANGE(checkpoints, CheckpointService, PinCheckpoint, PinCheckpointRequest, Checkpoint)
P2_CHANGE(checkpoints, CheckpointService, DeleteCheckpoint, DeleteCheckpointRequest, DeleteCheckpointResponse)
P2_CHANGE(checkpoints, CheckpointService, CollectCheckpoints, CollectCheckpointsRequest, CollectCheckpointsResponse)
P2_READ(artifacts, ArtifactService, ListArtifacts, ListArtifactsRequest, ListArtifactsResponse)
P2_READ(cluster, ClusterService, ListWorkers, ListWorkersRequest, ListWorkersResponse)
P2_READ(cluster, ClusterService, GetServerInfo, GetServerInfoRequest, ServerInfo)
P2_READ(cluster, ClusterService, ListRoots, ListRootsRequest, ListRootsResponse)
P2_CHANGE(cluster, ClusterService, CordonWorker, CordonWorkerRequest, Worker)
P2_CHANGE(cluster, ClusterService, UncordonWorker, UncordonWorkerRequest, Worker)
P2_CHANGE(cluster, ClusterService, DrainWorker, DrainWorkerRequest, Worker)
P2_READ(admin, AdminService, GetStatus, GetStatusRequest, Status)
P2_CHANGE(admin, AdminService, CreateBackup, CreateBackupRequest, Backup)
P2_READ(admin, AdminService, CheckStore, CheckStoreRequest, CheckStoreResponse)
P2_READ(events, EventService, ListEvents, ListEventsRequest, ListEventsResponse)
#undef P2_READ
#undef P2_CHANGE

absl::StatusOr<v1::CreateJobResponse> Client::CreateJob(v1::CreateJobRequest request) {
  if (request.owner().empty()) request.set_owner(impl_->user);
  return impl_->Call(impl_->jobs, &v1::JobService::Stub::CreateJob, WithRequestId(std::move(request)));
}

absl::StatusOr<v1::BatchCreateJobsResponse> Client::BatchCreateJobs(v1::BatchCreateJobsRequest request) {
  for (v1::CreateJobRequest& one : *request.mutable_requests()) {
    if (one.owner().empty()) one.set_owner(impl_->user);
  }
  return impl_->Call(impl_->jobs, &v1::JobService::Stub::BatchCreateJobs, WithRequestId(std::move(request)));
}

std::unique_ptr<Stream<v1::WatchJobsResponse>> Client::WatchJobs(const v1::WatchJobsRequest& request) {
  using Reader = client::WatchReader<v1::WatchJobsRequest, v1::WatchJobsResponse>;
  return std::make_unique<Reader>(
      impl_->options, request,
      Reader::Protocol{.open = [this](grpc::ClientContext* context,
                                      const auto& resume) { return impl_->jobs->WatchJobs(context, resume); },
                       .accept = [](v1::WatchJobsResponse event, auto& resume) -> std::optional<v1::WatchJobsResponse> {
                         resume.set_start_revision(std::max(resume.start_revision(), event.revision() + 1));
                         if (event.type() == v1::WatchJobsResponse::PROGRESS) return std::nullopt;
                         return event;
                       },
                       .repair =
                           [](const absl::Status& error, auto& resume) {
                             if (!absl::IsOutOfRange(error) || resume.start_revision() == 0) return false;
                             resume.set_start_revision(0);
                             return true;
                           },
                       .endless = true});
}

std::unique_ptr<Stream<v1::StreamMetricsResponse>> Client::StreamMetrics(const v1::StreamMetricsRequest& request) {
  using Reader = client::WatchReader<v1::StreamMetricsRequest, v1::StreamMetricsResponse>;
  return std::make_unique<Reader>(
      impl_->options, request,
      Reader::Protocol{
          .open = [this](grpc::ClientContext* context,
                         const auto& resume) { return impl_->metrics->StreamMetrics(context, resume); },
          .accept = [](v1::StreamMetricsResponse row, auto& resume) -> std::optional<v1::StreamMetricsResponse> {
            resume.set_cursor(row.cursor());
            return row;
          }});
}

std::unique_ptr<Stream<v1::ReadLogsResponse>> Client::ReadLogs(const v1::ReadLogsRequest& request) {
  using Reader = client::WatchReader<v1::ReadLogsRequest, v1::ReadLogsResponse>;
  // The log has no cursor: after a break everything is read again, and what was given is left out by its offset.
  auto given = std::make_shared<std::map<std::pair<int, int>, int64_t>>();
  return std::make_unique<Reader>(
      impl_->options, request,
      Reader::Protocol{
          .open = [this](grpc::ClientContext* context,
                         const auto& resume) { return impl_->logs->ReadLogs(context, resume); },
          .accept = [given](v1::ReadLogsResponse batch, auto& resume) -> std::optional<v1::ReadLogsResponse> {
            v1::ReadLogsResponse fresh;
            for (v1::LogEntry& entry : *batch.mutable_entries()) {
              auto [at, first] = given->try_emplace({entry.attempt(), entry.rank()}, entry.offset());
              if (!first && entry.offset() <= at->second) continue;
              at->second = entry.offset();
              *fresh.add_entries() = std::move(entry);
            }
            if (fresh.entries().empty()) return std::nullopt;
            resume.set_tail_lines(0);
            return fresh;
          }});
}

std::unique_ptr<Stream<v1::Event>> Client::FollowEvents(const v1::FollowEventsRequest& request) {
  using Reader = client::WatchReader<v1::FollowEventsRequest, v1::FollowEventsResponse, v1::Event>;
  return std::make_unique<Reader>(
      impl_->options, request,
      Reader::Protocol{.open = [this](grpc::ClientContext* context,
                                      const auto& resume) { return impl_->events->FollowEvents(context, resume); },
                       .accept = [](v1::FollowEventsResponse response, auto& resume) -> std::optional<v1::Event> {
                         if (!response.has_event()) return std::nullopt;
                         resume.set_start_revision(response.event().revision() + 1);
                         return std::move(*response.mutable_event());
                       },
                       .endless = true});
}

absl::StatusOr<v1::Artifact> Client::DownloadArtifact(absl::string_view name, const std::string& path) {
  v1::GetArtifactRequest request;
  request.set_name(std::string(name));
  v1::Artifact artifact;
  P2_RETURN_IF_ERROR(
      impl_->Retry(kDownloadTimeoutFactor * impl_->options.timeout, [&](absl::Time deadline) -> absl::Status {
        grpc::ClientContext context;
        context.set_deadline(absl::ToChronoTime(deadline));
        P2_ASSIGN_OR_RETURN(const std::unique_ptr<client::FileSink> sink, client::FileSink::Create(path));
        const std::unique_ptr<grpc::ClientReader<v1::GetArtifactResponse>> reader =
            impl_->artifacts->GetArtifact(&context, request);
        absl::Status written = absl::OkStatus();
        for (v1::GetArtifactResponse chunk; written.ok() && reader->Read(&chunk);) {
          if (chunk.has_artifact()) artifact = chunk.artifact();
          written = sink->Append(chunk.data());
        }
        if (!written.ok()) context.TryCancel();
        const absl::Status finished = FromGrpcStatus(reader->Finish());
        P2_RETURN_IF_ERROR(written);
        P2_RETURN_IF_ERROR(finished);
        return sink->Commit(artifact.size_bytes(), artifact.sha256());
      }));
  return artifact;
}

}  // namespace p2
