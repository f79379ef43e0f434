// What of CreateJob is not a training from scratch: where a job starts from, and the spec of a task.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/rpc/grpc_status.h"
#include "common/spec/resolve.h"
#include "p2/v1/job_service.pb.h"
#include "server/scheduler/types.h"

namespace p2::rpc {

// A job that another one may start from, as it is now.
struct SourceJob {
  std::string id;
  p2::v1::TrainingSpec spec;
  std::vector<scheduler::CheckpointPtr> checkpoints;  // In any order and state.
  bool ended = false, is_task = false;
};
// The newest good checkpoint of `job`, or the one of that ID. NOT_FOUND.
absl::StatusOr<scheduler::CheckpointPtr> FindCheckpoint(const SourceJob& job, const std::string& id);

// By `jobs/{job}`; a unique prefix of the ID also serves. NOT_FOUND, INVALID_ARGUMENT.
using FindSourceJob = absl::FunctionRef<absl::StatusOr<SourceJob>(absl::string_view name)>;

// What a request's `source` names. Without root_id for `ROOT:PATH`: that is for the caller to look up.
struct ResolvedSource {
  scheduler::JobSource source;
  p2::v1::TrainingSpec spec;  // Of the job, if it is a checkpoint.
  std::vector<std::string> ema_profiles;
};
// INVALID_ARGUMENT; NOT_FOUND if there is no such job or no such good checkpoint.
absl::StatusOr<ResolvedSource> ResolveSource(const p2::v1::CreateJobRequest& request, FindSourceJob find);

// Whether the task's spec is that of its source.
bool TakesSpecOfSource(const p2::v1::CreateJobRequest& request);
// The source's spec under the request's overrides. SpecError.
absl::StatusOr<spec::ResolvedSpec> SpecOfTask(const ResolvedSource& source, const spec::ResolveRequest& overrides,
                                              const p2::v1::TaskSpec& task);

// What the task draws: an image that is reconstructed counts for each timestep. 0 if it draws nothing. `spec`: of its
// source. REQUIRES: SpecOfTask took it.
absl::StatusOr<int64_t> ImagesOfTask(const p2::v1::TaskSpec& task, const p2::v1::TrainingSpec& spec);
// ID of the dataset that the task reads, or a training of `spec`; empty: none.
std::string DatasetOf(const p2::v1::TaskSpec& task, const p2::v1::TrainingSpec& spec);

// What can be said of a task without its source.
void CheckTask(const p2::v1::CreateJobRequest& request, std::vector<FieldViolation>& violations);

}  // namespace p2::rpc
