// Blocks whose inside is not kept for the backward pass.
#pragma once

#include <torch/types.h>

#include "worker/model/layers.h"

namespace p2::model {

// block.forward(x, emb, dropout), of which autograd keeps x and emb alone: the backward pass runs it again. Dropout is
// a map of the sample, so the second run computes what the first did, and the gradients have the same bits. `block`
// must outlive the backward pass. REQUIRES: gradients are recorded.
torch::Tensor ForwardKeepingInputs(Block& block, const torch::Tensor& x, const torch::Tensor& emb,
                                   const DropoutContext* dropout);

}  // namespace p2::model
