// Lengths of flat buffers, bit by bit the same on any number of ranks and threads.
#pragma once

#include <ATen/core/Tensor.h>

namespace p2::optim {

// sqrt(sum of squares) of `flat`, (N) fp32: a scalar on its device. The norms of blocks of 65,536 elements, then the
// norm of those, so that the bits do not depend on the number of threads where there is more than one block.
at::Tensor BlockedNorm(const at::Tensor& flat);

// |average - params| / |params| by the same blocks, with 16 MiB of memory at a time: a float64 scalar on their
// device. Both (N) fp32. NaN or infinity where params are zero or not finite.
at::Tensor RelativeDistance(const at::Tensor& average, const at::Tensor& params);

}  // namespace p2::optim
