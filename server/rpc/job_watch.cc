// JobService::WatchJobs: the present state of every job that matches, then every change.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "server/rpc/job_service.h"
#include "server/rpc/message_bytes.h"
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

class JobWatchSource : public StreamSource {
 public:
  JobWatchSource(const ServiceContext& context, SharedMessages& messages, std::shared_ptr<coordinator::JobWatch> watch,
                 std::vector<scheduler::JobPtr> present, int64_t revision, bool resumed)
      : context_(context),
        messages_(messages),
        watch_(std::move(watch)),
        present_(std::move(present)),
        revision_(revision),
        has_begun_(resumed) {}

  absl::StatusOr<std::optional<grpc::ByteBuffer>> Next() override {
    if (next_present_ < present_.size()) {
      const scheduler::JobPtr job = std::exchange(present_[next_present_++], nullptr);
      if (job->revision > revision_) sent_[job->id] = job->revision;
      return Message(std::min(job->revision, revision_), job->id, job);
    }
    if (!std::exchange(has_begun_, true)) {
      present_ = {};
      next_present_ = 0;
      return Idle();
    }
    while (true) {
      P2_ASSIGN_OR_RETURN(const std::optional<coordinator::JobChange> change, watch_->Next(absl::ZeroDuration()));
      if (!change.has_value()) return std::nullopt;
      revision_ = change->revision;
      // A change from between the watch's begin and the present state is in both.
      const auto already = sent_.find(change->job);
      if (already != sent_.end() && change->revision <= already->second) continue;
      return messages_.Of(revision_, [&] { return Message(revision_, change->job, change->record); });
    }
  }

  std::optional<grpc::ByteBuffer> Idle() override {
    WatchJobsResponse message;
    message.set_type(WatchJobsResponse::PROGRESS);
    message.set_revision(revision_);
    return ToBytes(message);
  }

 private:
  // Of a job that is gone `record` is null.
  absl::StatusOr<grpc::ByteBuffer> Message(int64_t revision, const std::string& id,
                                           const scheduler::JobPtr& record) const {
    WatchJobsResponse message;
    message.set_type(record == nullptr ? WatchJobsResponse::DELETED : WatchJobsResponse::STATE);
    message.set_revision(revision);
    if (record != nullptr) {
      return context_.views.Embed(message.SerializeAsString(), WatchJobsResponse::kJobFieldNumber, {record});
    }
    message.mutable_job()->set_name(ResourceName(kJobs, id));
    return ToBytes(message);
  }

  const ServiceContext& context_;
  SharedMessages& messages_;
  const std::shared_ptr<coordinator::JobWatch> watch_;
  std::vector<scheduler::JobPtr> present_;  // To be sent first; then where the watch stands.
  size_t next_present_ = 0;
  int64_t revision_;                     // Up to which all is sent once present_ is.
  bool has_begun_;                       // It was said that present_ is sent.
  std::map<std::string, int64_t> sent_;  // Of present_, what is newer than revision_.
};

}  // namespace

PushStreams::Opened JobService::Watch(const p2::v1::WatchJobsRequest& request, PushStreams::Wake wake) const {
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

  // The watch begins before the present state is read, so that nothing is missed.
  const bool resumed = request.start_revision() != 0;
  const int64_t revision = resumed ? request.start_revision() - 1 : context_.coordinator.watches().job_revision();
  P2_ASSIGN_OR_RETURN(std::shared_ptr<coordinator::JobWatch> watch,
                      context_.coordinator.watches().WatchJobs(ids, revision + 1));
  std::vector<scheduler::JobPtr> present;
  if (!resumed) {
    P2_ASSIGN_OR_RETURN(present, PresentState(context_, ids));
  }
  watch->OnReady(std::move(wake));
  return std::make_unique<JobWatchSource>(context_, watch_messages_, std::move(watch), std::move(present), revision,
                                          resumed);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* JobService::WatchJobs(grpc::CallbackServerContext*,
                                                                  const grpc::ByteBuffer* request) {
  return context_.streams.Start<p2::v1::WatchJobsRequest>(
      *request, [this](const auto& parsed, auto wake) { return Watch(parsed, std::move(wake)); });
}

}  // namespace p2::rpc
