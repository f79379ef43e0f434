#include <algorithm>

#include "worker/random/box_muller.h"
#include "worker/random/cuda_kernels.h"
#include "worker/random/philox.h"

namespace p2::random {
namespace {

constexpr int kThreads = 256;

int GridSize(std::int64_t draws) {
  return static_cast<int>(std::min<std::int64_t>((draws + kThreads - 1) / kThreads, 1 << 16));
}

// One thread a draw, in a loop that strides over the grid.
__global__ void NormalKernel(std::uint64_t seed, std::uint32_t stream, const std::int64_t* first_sample,
                             std::uint32_t first_block, float* out, std::int64_t rows, std::int64_t elements) {
  const auto g = static_cast<std::uint64_t>(*first_sample);
  const std::int64_t blocks = (elements + 3) / 4;
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < rows * blocks; i += stride) {
    const std::int64_t row = i / blocks, block = i % blocks;
    const Words words =
        Draw(seed, stream, g + static_cast<std::uint64_t>(row), first_block + static_cast<std::uint32_t>(block));
    float z[4];
    BoxMuller(words.w[0], words.w[1], &z[0], &z[1]);
    BoxMuller(words.w[2], words.w[3], &z[2], &z[3]);
    for (int k = 0; k < 4; ++k) {
      const std::int64_t j = 4 * block + k;
      if (j < elements) out[row * elements + j] = z[k];
    }
  }
}

__global__ void DropoutMaskKernel(std::uint64_t seed, std::uint32_t stream, const std::int64_t* first_sample,
                                  DropoutRate rate, const float* in, float* out, std::int64_t rows,
                                  std::int64_t elements) {
  const auto g = static_cast<std::uint64_t>(*first_sample);
  const std::int64_t blocks = (elements + 7) / 8;
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < rows * blocks; i += stride) {
    const std::int64_t row = i / blocks, block = i % blocks;
    const Words words = Draw(seed, stream, g + static_cast<std::uint64_t>(row), static_cast<std::uint32_t>(block));
    for (unsigned k = 0; k < 8; ++k) {
      const std::int64_t j = 8 * block + k;
      const std::int64_t at = row * elements + j;
      if (j < elements) out[at] = Lane16(words, k) >= rate.threshold ? in[at] * rate.scale : 0.0f;
    }
  }
}

__global__ void TimestepKernel(std::uint64_t seed, std::uint32_t stream, const std::int64_t* first_sample,
                               std::uint32_t num_timesteps, std::int64_t* out, std::int64_t rows) {
  const auto g = static_cast<std::uint64_t>(*first_sample);
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < rows; i += stride)
    out[i] = ScaleToRange(DrawScalar(seed, stream, g + static_cast<std::uint64_t>(i)), num_timesteps);
}

}  // namespace

void LaunchNormal(std::uint64_t seed, std::uint32_t stream, const std::int64_t* first_sample, std::uint32_t first_block,
                  float* out, std::int64_t rows, std::int64_t elements, CUstream_st* cuda_stream) {
  const std::int64_t draws = rows * ((elements + 3) / 4);
  if (draws == 0) return;
  NormalKernel<<<GridSize(draws), kThreads, 0, cuda_stream>>>(seed, stream, first_sample, first_block, out, rows,
                                                              elements);
}

void LaunchDropoutMask(std::uint64_t seed, std::uint32_t stream, const std::int64_t* first_sample, DropoutRate rate,
                       const float* in, float* out, std::int64_t rows, std::int64_t elements,
                       CUstream_st* cuda_stream) {
  const std::int64_t draws = rows * ((elements + 7) / 8);
  if (draws == 0) return;
  DropoutMaskKernel<<<GridSize(draws), kThreads, 0, cuda_stream>>>(seed, stream, first_sample, rate, in, out, rows,
                                                                   elements);
}

void LaunchTimesteps(std::uint64_t seed, std::uint32_t stream, const std::int64_t* first_sample,
                     std::uint32_t num_timesteps, std::int64_t* out, std::int64_t rows, CUstream_st* cuda_stream) {
  if (rows == 0) return;
  TimestepKernel<<<GridSize(rows), kThreads, 0, cuda_stream>>>(seed, stream, first_sample, num_timesteps, out, rows);
}

}  // namespace p2::random
