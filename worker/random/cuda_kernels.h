// The random map's kernels on a CUDA device; compiled only where nvcc is found (P2_CUDA_KERNELS). The same arithmetic
// as the CPU kernels, without fused multiply-add. Pointers are device memory of the current device; a failed launch is
// left for the caller's C10_CUDA_KERNEL_LAUNCH_CHECK. `first_sample` points to g of row 0, which the kernels read when
// they run: a replayed CUDA graph draws the numbers of the g that stands there by then.
#pragma once

#include <cstdint>

#include "worker/random/dropout_mask.h"

struct CUstream_st;  // *: cudaStream_t

namespace p2::random {

// `rows` x `elements` normals, row i of sample first_sample + i: element j from block first_block + j / 4.
void LaunchNormal(std::uint64_t seed, std::uint32_t stream, const std::int64_t* first_sample, std::uint32_t first_block,
                  float* out, std::int64_t rows, std::int64_t elements, CUstream_st* cuda_stream);

// ApplyDropoutMask for every row. `out` may be `in`.
void LaunchDropoutMask(std::uint64_t seed, std::uint32_t stream, const std::int64_t* first_sample, DropoutRate rate,
                       const float* in, float* out, std::int64_t rows, std::int64_t elements, CUstream_st* cuda_stream);

// `rows` timesteps in [0, num_timesteps), row i of sample first_sample + i.
void LaunchTimesteps(std::uint64_t seed, std::uint32_t stream, const std::int64_t* first_sample,
                     std::uint32_t num_timesteps, std::int64_t* out, std::int64_t rows, CUstream_st* cuda_stream);

}  // namespace p2::random
