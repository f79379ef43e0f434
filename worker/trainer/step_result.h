// What one step of training leaves for the books.
#pragma once

#include <ATen/core/Tensor.h>

#include "worker/diffusion/loss.h"

namespace p2::trainer {

struct StepResult {
  diffusion::LossTerms terms;  // Of this rank's samples, detached, each (b).
  at::Tensor t;                // (b) int64
  at::Tensor grad_norm;        // Scalar, of the sum over all ranks, before clipping.
  at::Tensor found_inf;  // Scalar fp32, 1 if the step changed nothing because a number was not finite, else 0; equal on
                         // all ranks.
};

}  // namespace p2::trainer
