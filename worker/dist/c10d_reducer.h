// Gradients summed by c10d's Reducer: bucketed, each bucket's all-reduce overlapped with the rest of the backward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "worker/dist/gradient_reducer.h"
#include "worker/dist/process_group.h"

namespace p2::dist {

// `params`: all parameters in state-dict order, each with a defined .grad, each used by every forward pass. `group`
// must outlive the reducer. A group without c10d() gets plain backward passes.
//
// The bucket layout follows from the parameters' sizes alone and stays for the life of the job (never rebuilt by
// arrival order): Gloo's sum depends on an element's place in its bucket, so only a fixed layout resumes bit for bit.
// The sum is a sum: the Reducer's division by the number of ranks does not happen.
std::unique_ptr<GradientReducer> MakeC10dReducer(ProcessGroup& group, std::vector<at::Tensor> params);

}  // namespace p2::dist
