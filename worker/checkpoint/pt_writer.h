// Writes .pt files that torch.load(weights_only=True) and the published code read: a zip as pt_archive.h describes it.
// Equal content gives equal bytes.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "worker/checkpoint/checkpoint_writer.h"
#include "worker/checkpoint/published_files.h"

namespace p2::checkpoint {

// An OrderedDict of float32 tensors, in the order given. A file there is replaced. On failure none is left half written:
// an errno's code with the path (RESOURCE_EXHAUSTED for a full disk).
absl::Status WritePtModel(const std::string& path, absl::Span<const TensorView> tensors);

// The optimizer's file as published_files.h describes it, one group, step as a tensor; loads into torch.optim.AdamW.
// Moments in the model's order; their names are not written.
absl::Status WritePtOptimizer(const std::string& path, const PublishedOptimizer& optimizer,
                              absl::Span<const TensorView> exp_avg, absl::Span<const TensorView> exp_avg_sq);

}  // namespace p2::checkpoint
