// The seam between the training step and whatever sums gradients over the ranks.
#pragma once

#include <ATen/core/Tensor.h>

#include "absl/status/status.h"

namespace p2::dist {

class GradientReducer {
 public:
  virtual ~GradientReducer() = default;

  // The backward pass of one microbatch. All .grad are zero before a step's first one. After the one with `last` (the
  // step's last microbatch on this rank), .grad holds the sum of d loss / d parameter over all microbatches and ranks;
  // between them it is the reducer's. UNAVAILABLE if a peer left or was frozen; the gradients are undefined then. What
  // autograd itself throws passes through.
  virtual absl::Status Backward(const at::Tensor& loss, bool last) = 0;
};

}  // namespace p2::dist
