#include "tests/client/fake_server.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/rpc/grpc_status.h"
#include "p2/v1/artifact_service.grpc.pb.h"
#include "p2/v1/checkpoint_service.grpc.pb.h"
#include "p2/v1/cluster_service.grpc.pb.h"
#include "p2/v1/dataset_service.grpc.pb.h"
#include "p2/v1/event_service.grpc.pb.h"
#include "p2/v1/job_service.grpc.pb.h"
#include "p2/v1/log_service.grpc.pb.h"
#include "p2/v1/metric_service.grpc.pb.h"
#include "p2/v1/preset_service.grpc.pb.h"

namespace p2::testing {

using grpc::ServerContext;
using grpc::ServerWriter;

struct Services;

namespace {

bool Terminal(const v1::Job& job) {
  return job.state() == v1::Job::SUCCEEDED || job.state() == v1::Job::FAILED || job.state() == v1::Job::CANCELLED;
}

grpc::Status NotFound(const std::string& type, const std::string& name) {
  return ToGrpcStatus(ResourceNotFoundError(type, name, absl::StrCat("`p2ctl list` shows them")));
}

}  // namespace

struct FakeServer::Impl {
  absl::Mutex mutex;
  FakeState state ABSL_GUARDED_BY(mutex);
  int failures_left ABSL_GUARDED_BY(mutex) = 0;
  bool fail_after_doing ABSL_GUARDED_BY(mutex) = false;
  absl::Status failure ABSL_GUARDED_BY(mutex);
  std::atomic<bool> stopping = false;
  int port = 0;
  std::shared_ptr<Services> services;
  std::unique_ptr<grpc::Server> server;

  // A unary call under the lock, with the failure that is due.
  grpc::Status Unary(const std::function<grpc::Status(FakeState&)>& handle) {
    absl::MutexLock lock(&mutex);
    ++state.calls;
    const bool fail = failures_left > 0;
    if (fail) --failures_left;
    if (fail && !fail_after_doing) return ToGrpcStatus(failure);
    const grpc::Status status = handle(state);
    return fail ? ToGrpcStatus(failure) : status;
  }

  // Sends what `next` yields until it says that the stream has ended.
  enum class Step { kSent, kWait, kEnd };
  grpc::Status Stream(ServerContext* context, const std::function<Step(FakeState&)>& next) {
    while (!stopping && !context->IsCancelled()) {
      absl::MutexLock lock(&mutex);
      const Step step = next(state);
      if (step == Step::kEnd) return grpc::Status::OK;
      if (step == Step::kWait)
        mutex.AwaitWithTimeout(absl::Condition(
                                   +[](bool* never) { return *never; }, &never_),
                               absl::Milliseconds(10));
    }
    return grpc::Status(grpc::UNAVAILABLE, "the server stops");
  }

  void Change(FakeState& s, const v1::Job& job, v1::WatchJobsResponse::Type type) {
    v1::WatchJobsResponse& change = s.changes.emplace_back();
    change.set_type(type);
    change.set_revision(static_cast<int64_t>(s.changes.size()));
    *change.mutable_job() = job;
  }

 private:
  bool never_ = false;
};

using Step = FakeServer::Impl::Step;

struct JobFake final : v1::JobService::Service {
  explicit JobFake(FakeServer::Impl& impl) : impl(impl) {}

  static v1::Job* Find(FakeState& s, const std::string& name) {
    v1::Job* found = nullptr;
    for (auto& [known, job] : s.jobs) {
      if (known == name) return &job;
      if (absl::StartsWith(known, name)) found = found == nullptr ? &job : nullptr;
    }
    return found;
  }
  grpc::Status CreateJob(ServerContext*, const v1::CreateJobRequest* request,
                         v1::CreateJobResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      s.last_create = *request;
      s.request_ids.push_back(request->request_id());
      if (request->preset() == "no-such") return NotFound("Preset", request->preset());
      if (request->preset() == "bad") {
        return ToGrpcStatus(BadRequestError(
            {{"training.batch", "is 0; must be at least 1"}, {"objective.gamma", "is -1; must be at least 0"}}));
      }
      const auto [at, fresh] = s.created.try_emplace(request->request_id());
      if (fresh) {
        v1::Job job =
            MakeJob(absl::StrCat(request->preset(), "-", std::string(5, static_cast<char>('a' + s.created.size() - 1))),
                    v1::Job::QUEUED);
        job.set_preset(request->preset());
        *job.mutable_labels() = request->labels();
        if (!request->validate_only()) {
          s.jobs[job.name()] = job;
          impl.Change(s, job, v1::WatchJobsResponse::STATE);
        }
        *at->second.mutable_job() = job;
        at->second.mutable_estimate()->set_parameters(1370000);
      }
      *response = at->second;
      return grpc::Status::OK;
    });
  }
  grpc::Status GetJob(ServerContext*, const v1::GetJobRequest* request, v1::Job* response) override {
    return impl.Unary([&](FakeState& s) {
      const v1::Job* job = Find(s, request->name());
      if (job == nullptr) return NotFound("Job", request->name());
      *response = *job;
      return grpc::Status::OK;
    });
  }
  grpc::Status ListJobs(ServerContext*, const v1::ListJobsRequest* request, v1::ListJobsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const auto& [name, job] : s.jobs) {
        if (!request->page_token().empty() && name < request->page_token()) continue;
        const auto& states = request->states();
        if (!states.empty() && std::count(states.begin(), states.end(), job.state()) == 0) continue;
        if (response->jobs_size() == request->page_size()) {
          response->set_next_page_token(name);
          break;
        }
        *response->add_jobs() = job;
      }
      return grpc::Status::OK;
    });
  }
  grpc::Status WatchJobs(ServerContext* context, const v1::WatchJobsRequest* request,
                         ServerWriter<v1::WatchJobsResponse>* writer) override {
    int64_t next = request->start_revision();
    bool compacted = false;
    const auto wanted = [request](const std::string& name) {
      return request->names().empty() || std::count(request->names().begin(), request->names().end(), name) > 0;
    };
    const grpc::Status status = impl.Stream(context, [&](FakeState& s) {
      if (next == 0) {
        next = static_cast<int64_t>(s.changes.size()) + 1;
        for (const auto& [name, job] : s.jobs) {
          v1::WatchJobsResponse present;
          present.set_type(v1::WatchJobsResponse::STATE);
          present.set_revision(next - 1);
          *present.mutable_job() = job;
          if (wanted(name)) writer->Write(present);
        }
        return Step::kSent;
      }
      compacted = next < s.compacted_before;
      if (compacted) return Step::kEnd;
      if (next > static_cast<int64_t>(s.changes.size())) return Step::kWait;
      const v1::WatchJobsResponse& change = s.changes[static_cast<size_t>(next++ - 1)];
      if (wanted(change.job().name())) writer->Write(change);
      return Step::kSent;
    });
    return compacted ? grpc::Status(grpc::OUT_OF_RANGE, "compacted") : status;
  }
  template <typename Request>
  grpc::Status Move(const Request& request, v1::Job::State to, v1::Job* response) {
    return impl.Unary([&](FakeState& s) {
      s.request_ids.push_back(request.request_id());
      v1::Job* job = Find(s, request.name());
      if (job == nullptr) return NotFound("Job", request.name());
      if (Terminal(*job)) {
        return ToGrpcStatus(
            absl::FailedPreconditionError(absl::StrCat("job is ", v1::Job::State_Name(job->state()), " already")));
      }
      job->set_state(to);
      impl.Change(s, *job, v1::WatchJobsResponse::STATE);
      *response = *job;
      return grpc::Status::OK;
    });
  }
  grpc::Status StopJob(ServerContext*, const v1::StopJobRequest* r, v1::Job* job) override {
    return Move(*r, v1::Job::CANCELLED, job);
  }
  grpc::Status KillJob(ServerContext*, const v1::KillJobRequest* r, v1::Job* job) override {
    return Move(*r, v1::Job::CANCELLED, job);
  }
  grpc::Status PauseJob(ServerContext*, const v1::PauseJobRequest* r, v1::Job* job) override {
    return Move(*r, v1::Job::PAUSED, job);
  }
  grpc::Status ResumeJob(ServerContext*, const v1::ResumeJobRequest* r, v1::Job* job) override {
    return Move(*r, v1::Job::QUEUED, job);
  }
  grpc::Status DeleteJob(ServerContext*, const v1::DeleteJobRequest* request, v1::DeleteJobResponse*) override {
    return impl.Unary([&](FakeState& s) {
      v1::Job* job = Find(s, request->name());
      if (job == nullptr) return NotFound("Job", request->name());
      if (!Terminal(*job)) return ToGrpcStatus(absl::FailedPreconditionError("job is live; stop it first"));
      impl.Change(s, *job, v1::WatchJobsResponse::DELETED);
      s.jobs.erase(job->name());
      return grpc::Status::OK;
    });
  }
  FakeServer::Impl& impl;
};

struct PresetFake final : v1::PresetService::Service {
  explicit PresetFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status ListPresets(ServerContext*, const v1::ListPresetsRequest*, v1::ListPresetsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const v1::Preset& preset : s.presets) *response->add_presets() = preset;
      return grpc::Status::OK;
    });
  }
  grpc::Status GetPreset(ServerContext*, const v1::GetPresetRequest* request, v1::Preset* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const v1::Preset& preset : s.presets) {
        if (preset.name() == request->name()) *response = preset;
      }
      return response->name().empty() ? NotFound("Preset", request->name()) : grpc::Status::OK;
    });
  }
  FakeServer::Impl& impl;
};

struct DatasetFake final : v1::DatasetService::Service {
  explicit DatasetFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status RegisterDataset(ServerContext*, const v1::RegisterDatasetRequest* request,
                               v1::Dataset* response) override {
    return impl.Unary([&](FakeState& s) {
      s.datasets[request->dataset().name()] = *response = request->dataset();
      return grpc::Status::OK;
    });
  }
  grpc::Status ListDatasets(ServerContext*, const v1::ListDatasetsRequest*,
                            v1::ListDatasetsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const auto& [name, dataset] : s.datasets) *response->add_datasets() = dataset;
      return grpc::Status::OK;
    });
  }
  FakeServer::Impl& impl;
};

struct MetricFake final : v1::MetricService::Service {
  explicit MetricFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status QueryMetrics(ServerContext*, const v1::QueryMetricsRequest* request,
                            v1::QueryMetricsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      std::map<std::string, v1::MetricSeries> series;
      for (const v1::StreamMetricsResponse& row : s.metrics[request->job()]) {
        if (row.images_seen() < request->from_images() ||
            (request->to_images() > 0 && row.images_seen() > request->to_images()))
          continue;
        for (const auto& [metric, value] : row.values()) {
          const auto& wanted = request->metrics();
          if (!wanted.empty() && std::count(wanted.begin(), wanted.end(), metric) == 0) continue;
          series[metric].set_metric(metric);
          if (request->max_points() > 0 && series[metric].points_size() == request->max_points())
            continue;  // Cut, not thinned.
          v1::MetricPoint& point = *series[metric].add_points();
          point.set_images_seen(row.images_seen());
          point.set_step(row.step());
          point.set_attempt(row.attempt());
          point.set_value(value);
          *point.mutable_time() = row.time();
        }
      }
      for (auto& [metric, points] : series) *response->add_series() = points;
      if (response->ByteSizeLong() > s.max_metric_bytes)
        return ToGrpcStatus(absl::ResourceExhaustedError("the answer is too big"));
      return grpc::Status::OK;
    });
  }
  grpc::Status StreamMetrics(ServerContext* context, const v1::StreamMetricsRequest* request,
                             ServerWriter<v1::StreamMetricsResponse>* writer) override {
    size_t next = request->cursor().empty() ? 0 : std::stoul(request->cursor());
    return impl.Stream(context, [&](FakeState& s) {
      const std::vector<v1::StreamMetricsResponse>& rows = s.metrics[request->job()];
      if (next == rows.size()) return Terminal(s.jobs[request->job()]) ? Step::kEnd : Step::kWait;
      v1::StreamMetricsResponse row = rows[next++];
      row.set_cursor(absl::StrCat(next));
      writer->Write(row);
      return Step::kSent;
    });
  }
  FakeServer::Impl& impl;
};

struct LogFake final : v1::LogService::Service {
  explicit LogFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status ReadLogs(ServerContext* context, const v1::ReadLogsRequest* request,
                        ServerWriter<v1::ReadLogsResponse>* writer) override {
    size_t next = 0;
    return impl.Stream(context, [&](FakeState& s) {
      const std::vector<v1::LogEntry>& lines = s.logs[request->job()];
      if (next == lines.size())
        return !request->follow() || Terminal(s.jobs[request->job()]) ? Step::kEnd : Step::kWait;
      v1::ReadLogsResponse response;
      *response.add_entries() = lines[next++];
      if (!request->has_rank() || request->rank() == response.entries(0).rank()) writer->Write(response);
      return Step::kSent;
    });
  }
  FakeServer::Impl& impl;
};

struct CheckpointFake final : v1::CheckpointService::Service {
  explicit CheckpointFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status ListCheckpoints(ServerContext*, const v1::ListCheckpointsRequest* request,
                               v1::ListCheckpointsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const v1::Checkpoint& checkpoint : s.checkpoints[request->parent()])
        *response->add_checkpoints() = checkpoint;
      return grpc::Status::OK;
    });
  }
  FakeServer::Impl& impl;
};

struct ArtifactFake final : v1::ArtifactService::Service {
  explicit ArtifactFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status ListArtifacts(ServerContext*, const v1::ListArtifactsRequest* request,
                             v1::ListArtifactsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const auto& [name, artifact] : s.artifacts) {
        const bool kind = request->kind().empty() || request->kind() == artifact.first.kind();
        if (kind && absl::StartsWith(name, request->parent() + "/")) *response->add_artifacts() = artifact.first;
      }
      return grpc::Status::OK;
    });
  }
  grpc::Status GetArtifact(ServerContext*, const v1::GetArtifactRequest* request,
                           ServerWriter<v1::GetArtifactResponse>* writer) override {
    return impl.Unary([&](FakeState& s) {
      const auto found = s.artifacts.find(request->name());
      if (found == s.artifacts.end()) return NotFound("Artifact", request->name());
      v1::GetArtifactResponse first;
      *first.mutable_artifact() = found->second.first;
      writer->Write(first);
      constexpr size_t kChunk = 5;
      for (size_t at = 0; at < found->second.second.size(); at += kChunk) {
        v1::GetArtifactResponse chunk;
        chunk.set_data(found->second.second.substr(at, kChunk));
        writer->Write(chunk);
      }
      return grpc::Status::OK;
    });
  }
  FakeServer::Impl& impl;
};

struct ClusterFake final : v1::ClusterService::Service {
  explicit ClusterFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status ListWorkers(ServerContext*, const v1::ListWorkersRequest*, v1::ListWorkersResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const v1::Worker& worker : s.workers) *response->add_workers() = worker;
      return grpc::Status::OK;
    });
  }
  grpc::Status ListRoots(ServerContext*, const v1::ListRootsRequest*, v1::ListRootsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const v1::StorageRoot& root : s.roots) *response->add_roots() = root;
      return grpc::Status::OK;
    });
  }
  grpc::Status CordonWorker(ServerContext*, const v1::CordonWorkerRequest* request, v1::Worker* response) override {
    return impl.Unary([&](FakeState& s) {
      for (v1::Worker& worker : s.workers) {
        if (worker.name() != request->name()) continue;
        worker.set_cordoned(true);
        worker.set_cordon_reason(request->reason());
        *response = worker;
        return grpc::Status::OK;
      }
      return NotFound("Worker", request->name());
    });
  }
  FakeServer::Impl& impl;
};

struct EventFake final : v1::EventService::Service {
  explicit EventFake(FakeServer::Impl& impl) : impl(impl) {}
  static bool Wanted(const v1::Event& event, const std::string& resource) {
    return resource.empty() || event.resource() == resource;
  }
  grpc::Status ListEvents(ServerContext*, const v1::ListEventsRequest* request,
                          v1::ListEventsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      for (const v1::Event& event : s.events) {
        if (Wanted(event, request->resource())) *response->add_events() = event;
      }
      return grpc::Status::OK;
    });
  }
  grpc::Status FollowEvents(ServerContext* context, const v1::FollowEventsRequest* request,
                            ServerWriter<v1::FollowEventsResponse>* writer) override {
    int64_t next = request->start_revision();
    return impl.Stream(context, [&](FakeState& s) {
      for (const v1::Event& event : s.events) {
        if (event.revision() < next || !Wanted(event, request->resource())) continue;
        next = event.revision() + 1;
        v1::FollowEventsResponse response;
        *response.mutable_event() = event;
        writer->Write(response);
      }
      return Step::kWait;
    });
  }
  FakeServer::Impl& impl;
};

struct Services {
  explicit Services(FakeServer::Impl& impl)
      : jobs(impl),
        presets(impl),
        datasets(impl),
        metrics(impl),
        logs(impl),
        checkpoints(impl),
        artifacts(impl),
        cluster(impl),
        events(impl) {}
  JobFake jobs;
  PresetFake presets;
  DatasetFake datasets;
  MetricFake metrics;
  LogFake logs;
  CheckpointFake checkpoints;
  ArtifactFake artifacts;
  ClusterFake cluster;
  EventFake events;
};

FakeServer::FakeServer() : impl_(std::make_unique<Impl>()) {
  impl_->services = std::make_shared<Services>(*impl_);
  Start();
}

FakeServer::~FakeServer() { Stop(); }

void FakeServer::Start() {
  impl_->stopping = false;
  Services& s = *impl_->services;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(absl::StrCat("127.0.0.1:", impl_->port), grpc::InsecureServerCredentials(), &impl_->port);
  for (grpc::Service* service :
       std::initializer_list<grpc::Service*>{&s.jobs, &s.presets, &s.datasets, &s.metrics, &s.logs, &s.checkpoints,
                                             &s.artifacts, &s.cluster, &s.events}) {
    builder.RegisterService(service);
  }
  impl_->server = builder.BuildAndStart();
}

void FakeServer::Stop() {
  if (impl_->server == nullptr) return;
  impl_->stopping = true;
  impl_->server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(5));
  impl_->server.reset();
}

std::string FakeServer::address() const { return absl::StrCat("127.0.0.1:", impl_->port); }

void FakeServer::SetJob(v1::Job job) {
  absl::MutexLock lock(&impl_->mutex);
  job.set_etag(absl::StrCat(impl_->state.changes.size()));
  impl_->state.jobs[job.name()] = job;
  impl_->Change(impl_->state, job, v1::WatchJobsResponse::STATE);
}

void FakeServer::With(const std::function<void(FakeState&)>& use) {
  absl::MutexLock lock(&impl_->mutex);
  use(impl_->state);
}

void FakeServer::FailNext(int count, const absl::Status& error, bool after_doing) {
  absl::MutexLock lock(&impl_->mutex);
  impl_->failures_left = count;
  impl_->failure = error;
  impl_->fail_after_doing = after_doing;
}

v1::Job MakeJob(const std::string& id, v1::Job::State state, int64_t images_seen) {
  v1::Job job;
  job.set_name(absl::StrCat("jobs/", id));
  job.set_state(state);
  job.set_preset("mnist-demo");
  job.set_owner("ada");
  job.mutable_spec()->mutable_data()->set_dataset("mnist");
  job.mutable_spec()->mutable_training()->set_batch(32);
  job.mutable_spec()->mutable_training()->set_images(18000);
  job.mutable_spec()->mutable_resources()->set_devices(2);
  (*job.mutable_spec_origins())["training.batch"] = "preset mnist-demo";
  job.mutable_progress()->set_images_seen(images_seen);
  job.mutable_progress()->set_images_total(18000);
  job.mutable_progress()->set_images_per_second(112.5);
  job.mutable_progress()->set_eta_seconds(88);
  job.mutable_progress()->set_loss(0.0532);
  job.mutable_create_time()->set_seconds(1795424077);
  return job;
}

}  // namespace p2::testing
