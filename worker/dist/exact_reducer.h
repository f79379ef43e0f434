// Gradients summed so that their bits do not depend on the number of ranks (TRAINING.md, section 3, `exact`).
//
// The batch is cut into V leaves, V a power of two: a leaf is one backward pass of B / V samples, whoever computes it.
// The sum over the leaves is that of LeafTree. A rank adds the subtrees inside its own leaves as it computes them; what
// is left (one partial sum where W is a power of two, at most 2 log2 V) travels once, cut into W slices: the owner of a
// slice adds the rest of the tree for it, and all slices are gathered. That is the traffic of a ring all-reduce, times
// the partial sums. Unlike c10d's it does not overlap with the backward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "worker/dist/gradient_reducer.h"
#include "worker/dist/leaf_tree.h"
#include "worker/dist/process_group.h"

namespace p2::dist {

// `grads`: the flat buffer, fp32, of which every parameter's .grad is a view; its size is a multiple of 64 elements.
// `group` must outlive the reducer. REQUIRES: `leaves` is a power of two, and group.world_size() <= leaves.
//
// A step makes one Backward call for each leaf of LeavesOf(rank, world_size, leaves), in order; the last one has
// `last`.
std::unique_ptr<GradientReducer> MakeExactReducer(ProcessGroup& group, at::Tensor grads, int leaves);

}  // namespace p2::dist
