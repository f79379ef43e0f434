// JobService, over a map of jobs and a log of their changes.
#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/rpc/labels.h"
#include "p2/v1/job_service.grpc.pb.h"
#include "tests/client/fake_server_impl.h"

namespace p2::testing {
namespace {

using grpc::ServerContext;
using grpc::ServerWriter;
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
        job.mutable_lineage()->set_kind(request->derive_from().kind());
        if (!request->validate_only()) {
          s.jobs[job.name()] = job;
          impl.Change(s, job, v1::WatchJobsResponse::STATE);
        }
        *at->second.mutable_job() = job;
        at->second.mutable_estimate()->set_parameters(1370000);
        if (request->validate_only()) *at->second.mutable_forecast() = s.forecast;
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
        if (!request->owner().empty() && request->owner() != job.owner()) continue;
        if (!request->project().empty() && request->project() != job.project()) continue;
        if (!request->queue().empty() && request->queue() != job.queue()) continue;
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
    impl.Remember([r](FakeState& s) { s.last_resume = *r; });
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
  grpc::Status BatchCreateJobs(ServerContext*, const v1::BatchCreateJobsRequest* request,
                               v1::BatchCreateJobsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      s.last_batch = *request;
      for (int i = 0; i < request->requests_size(); ++i) {
        const v1::Job job = MakeJob(absl::StrCat("batch-", i), v1::Job::QUEUED);
        s.jobs[job.name()] = *response->add_jobs() = job;
        impl.Change(s, job, v1::WatchJobsResponse::STATE);
      }
      return grpc::Status::OK;
    });
  }
  grpc::Status ControlJobs(ServerContext*, const v1::ControlJobsRequest* request,
                           v1::ControlJobsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      s.controls.push_back(*request);
      const absl::StatusOr<LabelSelector> selector = LabelSelector::Parse(request->label_selector());
      if (!selector.ok()) return ToGrpcStatus(selector.status());
      for (auto& [name, job] : s.jobs) {
        const bool named = std::count(request->names().begin(), request->names().end(), name) > 0;
        const bool selected = request->names().empty() && selector->Matches(job.labels()) &&
                              (request->owner().empty() || request->owner() == job.owner()) &&
                              std::count(request->states().begin(), request->states().end(), job.state()) > 0;
        if (named || selected) response->add_names(name);
        if ((named || selected) && !request->validate_only()) job.set_state(v1::Job::CANCELLED);
      }
      return grpc::Status::OK;
    });
  }
  grpc::Status UpdateJob(ServerContext*, const v1::UpdateJobRequest* request, v1::Job* response) override {
    return impl.Unary([&](FakeState& s) {
      s.last_update = *request;
      v1::Job& job = s.jobs[request->name()];
      if (request->has_priority()) job.set_priority(request->priority());
      *response = job;
      return grpc::Status::OK;
    });
  }
  grpc::Status ExplainJob(ServerContext*, const v1::ExplainJobRequest* request, v1::JobExplanation* response) override {
    return impl.Unary([&](FakeState& s) {
      const v1::Job* job = Find(s, request->name());
      if (job == nullptr) return NotFound("Job", request->name());
      *response = s.explanations[job->name()];
      response->set_name(job->name());
      return grpc::Status::OK;
    });
  }
  FakeServer::Impl& impl;
};

}  // namespace

void AddJobService(FakeServer::Impl& impl, Services& services) { services.push_back(std::make_unique<JobFake>(impl)); }

}  // namespace p2::testing
