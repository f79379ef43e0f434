#pragma once

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "p2/v1/admin_service.grpc.pb.h"
#include "server/rpc/service_context.h"
#include "server/store/backup.h"
#include "server/store/data_directory.h"
#include "server/store/database.h"

namespace p2::rpc {

// Beneath the job store; what AdminService alone needs. All of it must outlive the service.
struct AdminParts {
  const store::Database& database;
  const store::DataDirectory& data;
  store::Backups& backups;
};

// Thread-safe. A backup or a check holds one of gRPC's threads, and stops when its caller leaves or p2d stops.
class AdminService final : public p2::v1::AdminService::Service {
 public:
  AdminService(ServiceContext& context, const AdminParts& parts) : context_(context), parts_(parts) {}

  grpc::Status GetStatus(grpc::ServerContext* call, const p2::v1::GetStatusRequest* request,
                         p2::v1::Status* response) override;
  grpc::Status CreateBackup(grpc::ServerContext* call, const p2::v1::CreateBackupRequest* request,
                            p2::v1::Backup* response) override;
  grpc::Status CheckStore(grpc::ServerContext* call, const p2::v1::CheckStoreRequest* request,
                          p2::v1::CheckStoreResponse* response) override;

 private:
  absl::StatusOr<p2::v1::Status> Status() const;

  ServiceContext& context_;
  const AdminParts parts_;
  const absl::Time start_time_ = absl::Now();
};

}  // namespace p2::rpc
