// Jobs made from other jobs: forks, clones, extensions (p2.v1.DeriveFrom).
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "common/rpc/grpc_status.h"
#include "common/spec/resolve.h"
#include "p2/v1/job_service.pb.h"
#include "server/rpc/task_admission.h"

namespace p2::rpc {

// Appends what is wrong with derive_from and what may not stand beside it.
void CheckDerived(const p2::v1::CreateJobRequest& request, std::vector<FieldViolation>& violations);

struct DerivedSpec {
  spec::ResolvedSpec resolved;
  scheduler::JobSource source;  // Of a fork and an extension: the checkpoint that it goes on from.
  scheduler::Lineage lineage;
};
// REQUIRES: CheckDerived found nothing. INVALID_ARGUMENT: an override changes what the checkpoint fixes (model, seed,
// batch, averages, dataset), or an extension has no more images. FAILED_PRECONDITION: extending a job that lives, or a
// task. NOT_FOUND: the job, or a good checkpoint.
absl::StatusOr<DerivedSpec> DeriveSpec(const p2::v1::CreateJobRequest& request, const spec::ResolveRequest& overrides,
                                       FindSourceJob find);

}  // namespace p2::rpc
