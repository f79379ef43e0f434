// JobService::WatchJobs: the present state of every job that matches, then every change.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "server/rpc/job_service.h"
#include "server/rpc/validation.h"

namespace p2::rpc {
namespace {

using p2::v1::WatchJobsResponse;

// Ended jobs in the present state of a watch of all jobs; ListJobs pages through the rest.
constexpr int kMaxFinished = kMaxPageSize;

// Every job that matches, by the revision of its last change: a client that got some of them can resume behind the
// last.
absl::StatusOr<std::vector<scheduler::JobPtr>> PresentState(const ServiceContext& context,
                                                            const std::set<std::string>& ids) {
  std::map<std::string, scheduler::JobPtr> jobs;
  for (scheduler::JobPtr& job : context.coordinator.LiveJobs()) {
    if (ids.empty() || ids.count(job->id) > 0) jobs[job->id] = std::move(job);
  }
  std::vector<scheduler::JobPtr> finished;
  if (ids.empty()) {
    P2_ASSIGN_OR_RETURN(finished, context.store.ListFinishedJobs(INT64_MAX, kMaxFinished));
  }
  for (const std::string& id : ids) {
    if (jobs.count(id) > 0) continue;
    P2_ASSIGN_OR_RETURN(scheduler::JobPtr job, context.FindJob(ResourceName(kJobs, id)));
    finished.push_back(std::move(job));
  }
  for (scheduler::JobPtr& job : finished) jobs[job->id] = std::move(job);
  std::vector<scheduler::JobPtr> sorted;
  for (auto& [id, job] : jobs) sorted.push_back(std::move(job));
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a->revision < b->revision; });
  return sorted;
}

}  // namespace

absl::Status JobService::Watch(const grpc::ServerContext& call, const p2::v1::WatchJobsRequest& request,
                               grpc::ServerWriter<WatchJobsResponse>& writer) const {
  std::set<std::string> ids;
  std::vector<FieldViolation> violations;
  for (const std::string& name : request.names()) {
    absl::StatusOr<std::string> id = ParseResourceName(kJobs, name);
    if (id.ok())
      ids.insert(*std::move(id));
    else
      violations.emplace_back("names", std::string(id.status().message()));
  }
  if (request.start_revision() < 0) violations.emplace_back("start_revision", "is negative");
  P2_RETURN_IF_ERROR(BadRequestError(violations));

  // The watch begins before the present state is read: a change in between is in both, and dropped below.
  int64_t revision = context_.coordinator.watches().job_revision();
  const bool resumed = request.start_revision() != 0;
  P2_ASSIGN_OR_RETURN(const auto watch,
                      context_.coordinator.watches().WatchJobs(ids, resumed ? request.start_revision() : revision + 1));
  const auto make = [&](WatchJobsResponse::Type type, const std::string& id,
                        const scheduler::JobRecord* record) -> absl::StatusOr<WatchJobsResponse> {
    WatchJobsResponse message;
    message.set_type(type);
    message.set_revision(revision);
    if (record != nullptr) {
      P2_ASSIGN_OR_RETURN(*message.mutable_job(), context_.views.View(*record));
    } else if (!id.empty()) {
      message.mutable_job()->set_name(ResourceName(kJobs, id));
    }
    return message;
  };
  const auto write = [&](const WatchJobsResponse& message) {
    return writer.Write(message) ? absl::OkStatus() : absl::CancelledError("the client is gone");
  };
  const auto send = [&](WatchJobsResponse::Type type, const std::string& id,
                        const scheduler::JobRecord* record) -> absl::Status {
    P2_ASSIGN_OR_RETURN(const WatchJobsResponse message, make(type, id, record));
    return write(message);
  };
  std::map<std::string, int64_t> sent;
  if (!resumed) {
    P2_ASSIGN_OR_RETURN(const std::vector<scheduler::JobPtr> present, PresentState(context_, ids));
    const int64_t now = revision;
    for (const scheduler::JobPtr& job : present) {
      revision = std::min(job->revision, now);
      if (job->revision > now) sent[job->id] = job->revision;
      P2_RETURN_IF_ERROR(send(WatchJobsResponse::STATE, job->id, job.get()));
    }
    revision = now;
    P2_RETURN_IF_ERROR(send(WatchJobsResponse::PROGRESS, "", nullptr));
  } else {
    revision = request.start_revision() - 1;
  }

  absl::Time last_sent = absl::Now();
  while (!context_.Ended(call)) {
    P2_ASSIGN_OR_RETURN(const std::optional<coordinator::JobChange> change, watch->Next(kStreamPoll));
    if (change.has_value()) {
      revision = change->revision;
      const auto already = sent.find(change->job);
      if (already != sent.end() && change->revision <= already->second) continue;
      P2_ASSIGN_OR_RETURN(const std::shared_ptr<const WatchJobsResponse> message, watch_messages_.Of(revision, [&] {
        return make(change->record == nullptr ? WatchJobsResponse::DELETED : WatchJobsResponse::STATE, change->job,
                    change->record.get());
      }));
      P2_RETURN_IF_ERROR(write(*message));
    } else if (absl::Now() - last_sent >= context_.times.watch_interval) {
      P2_RETURN_IF_ERROR(send(WatchJobsResponse::PROGRESS, "", nullptr));
    } else {
      continue;
    }
    last_sent = absl::Now();
  }
  return context_.EndStatus(call);
}

}  // namespace p2::rpc
