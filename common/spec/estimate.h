// What a run costs, computed without torch: for `--dry-run`.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "p2/v1/job_service.pb.h"
#include "p2/v1/training_spec.pb.h"

namespace p2::spec {

// Samples of a global batch on each of `ranks` ranks: rank r takes [floor(r B / W), floor((r+1) B / W)).
// REQUIRES: 1 <= ranks.
std::vector<int> ShareOfBatch(int batch, int ranks);

// Parameters, memory of the fullest device (unet_shape.h says what is counted; with microbatch: auto, of its whole
// share), bytes of one checkpoint (model, optimizer, EMAs), bytes of the snapshots of averages that a finished run
// keeps, samples a device, and whole steps until training.images is reached. REQUIRES: a valid spec. INVALID_ARGUMENT
// if its model or batch is not.
absl::StatusOr<p2::v1::ResourceEstimate> EstimateResources(const p2::v1::TrainingSpec& spec);

}  // namespace p2::spec
