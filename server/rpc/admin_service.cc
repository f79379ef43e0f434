#include "server/rpc/admin_service.h"

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "server/rpc/convert.h"
#include "server/rpc/validation.h"
#include "server/scheduler/job_lifecycle.h"
#include "server/store/store_check.h"

namespace p2::rpc {
namespace {

p2::v1::Backup ToProto(const store::Backup& backup) {
  p2::v1::Backup message;
  message.set_name(absl::StrCat("backups/", backup.id));
  if (backup.create_time != absl::InfinitePast()) *message.mutable_create_time() = ToTimestamp(backup.create_time);
  if (backup.verify_time != absl::InfinitePast()) *message.mutable_verify_time() = ToTimestamp(backup.verify_time);
  message.set_size_bytes(backup.size_bytes);
  message.set_commits(static_cast<int64_t>(backup.commits));
  message.set_path(backup.path);
  return message;
}

}  // namespace

grpc::Status AdminService::GetStatus(grpc::ServerContext*, const p2::v1::GetStatusRequest*, p2::v1::Status* response) {
  absl::StatusOr<p2::v1::Status> status = Status();
  if (status.ok()) *response = *std::move(status);
  return ToGrpcStatus(status.status());
}

absl::StatusOr<p2::v1::Status> AdminService::Status() const {
  p2::v1::Status status;
  status.set_version(P2_VERSION);
  *status.mutable_start_time() = ToTimestamp(start_time_);
  status.set_data_dir(std::filesystem::absolute(parts_.data.path()).string());
  P2_ASSIGN_OR_RETURN(const store::DiskSpace space, parts_.data.Space());
  status.set_free_bytes(space.free_bytes);
  status.set_total_bytes(space.total_bytes);
  P2_RETURN_IF_ERROR(context_.coordinator.Inquire("", [&status](const coordinator::Coordinator::Inside& inside) {
    status.set_disk_full(inside.state.disk_full());
  }));
  P2_ASSIGN_OR_RETURN(const store::StoreNumbers numbers, parts_.database.Numbers());
  status.set_database_bytes(numbers.bytes);
  status.set_commits(static_cast<int64_t>(numbers.commits));
  status.set_schema_version(numbers.schema_version);
  for (const scheduler::JobPtr& job : context_.coordinator.LiveJobs())
    ++(*status.mutable_jobs())[std::string(scheduler::JobStateName(job->state))];
  const coordinator::WorkerList workers = context_.coordinator.Workers();
  for (const scheduler::WorkerPtr& worker : *workers)
    ++(*status.mutable_workers())[p2::v1::Worker::State_Name(static_cast<p2::v1::Worker::State>(worker->state))];
  status.set_watchers(context_.coordinator.watches().watchers());
  const std::optional<store::Backup> last = parts_.backups.Last();
  if (last.has_value()) *status.mutable_last_backup() = ToProto(*last);
  return status;
}

grpc::Status AdminService::CreateBackup(grpc::ServerContext* call, const p2::v1::CreateBackupRequest* request,
                                        p2::v1::Backup* response) {
  if (const absl::Status valid = ValidateCommand(request->request_id(), ""); !valid.ok()) return ToGrpcStatus(valid);
  const absl::StatusOr<store::Backup> backup =
      parts_.backups.Create(request->request_id(), [this, call] { return context_.Ended(*call); });
  if (!backup.ok()) {
    P2_LOG(kWarning) << "no backup was made: " << backup.status().message();
    return ToGrpcStatus(absl::IsCancelled(backup.status()) ? context_.EndStatus(*call) : backup.status());
  }
  P2_LOG(kInfo) << "backup " << backup->path << ": " << backup->size_bytes << " bytes, " << backup->commits
                << " commits, verified";
  *response = ToProto(*backup);
  return grpc::Status::OK;
}

grpc::Status AdminService::CheckStore(grpc::ServerContext* call, const p2::v1::CheckStoreRequest*,
                                      p2::v1::CheckStoreResponse* response) {
  const absl::StatusOr<store::StoreReport> report =
      store::CheckStore(parts_.database, [this, call] { return context_.Ended(*call); });
  if (!report.ok())
    return ToGrpcStatus(absl::IsCancelled(report.status()) ? context_.EndStatus(*call) : report.status());
  response->mutable_records()->insert(report->records.begin(), report->records.end());
  for (const store::StoreFinding& finding : report->findings) {
    p2::v1::StoreFinding& found = *response->add_findings();
    found.set_subject(finding.subject);
    found.set_message(finding.message);
    P2_LOG(kError) << "the store is damaged: " << finding.subject << ": " << finding.message;
  }
  response->set_finding_count(report->finding_count);
  response->set_commits(static_cast<int64_t>(report->numbers.commits));
  response->set_schema_version(report->numbers.schema_version);
  return grpc::Status::OK;
}

}  // namespace p2::rpc
