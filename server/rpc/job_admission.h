// From a CreateJobRequest to the command that the scheduler takes: resolve, look the dataset up, estimate.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "p2/v1/job_service.pb.h"
#include "p2/v1/training_spec.pb.h"
#include "server/rpc/resolved_specs.h"
#include "server/rpc/task_admission.h"
#include "server/scheduler/event.h"
#include "server/scheduler/types.h"

namespace p2::rpc {

struct Admission {
  scheduler::CreateJob command;  // Its `info` is not filled in.
  KnownSpecPtr spec;
  // What the caller is told, less the job.
  p2::v1::CreateJobResponse answer;
};

// Pure but for `find_source`. `datasets` and `workers` as they are now.
// INVALID_ARGUMENT (spec, with every bad field), NOT_FOUND (preset, dataset, source job or checkpoint),
// FAILED_PRECONDITION (a dataset of another resolution or number of channels, with fewer images than a batch, or on a
// root that no worker has ever reported: all of it at once).
absl::StatusOr<Admission> Admit(const p2::v1::CreateJobRequest& request,
                                const std::vector<scheduler::DatasetPtr>& datasets,
                                const std::vector<scheduler::WorkerPtr>& workers, FindSourceJob find_source,
                                ResolvedSpecs& specs);

// The job that is asked for as the caller sees it before it is made: without a name.
p2::v1::Job UnnamedJob(const Admission& admission);

}  // namespace p2::rpc
