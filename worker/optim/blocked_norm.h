// The length of the gradient.
#pragma once

#include <ATen/core/Tensor.h>

namespace p2::optim {

// sqrt(sum of squares) of `flat`, (N) fp32: a scalar on its device. The norms of blocks of 65,536 elements, then the
// norm of those, so that the bits do not depend on the number of threads where there is more than one block.
at::Tensor BlockedNorm(const at::Tensor& flat);

}  // namespace p2::optim
