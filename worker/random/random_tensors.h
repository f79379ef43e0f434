// Tensors filled from the random map (philox.h): row i of a batch belongs to sample first_sample + i, whatever the
// rank, the microbatch or the thread that computes it. Float32. A CUDA device has kernels of its own where the build
// found nvcc; without them numbers are made on the CPU and copied, and dropout on the device is refused. Thread-safe.
// Errors of use are TORCH_CHECKs.
#pragma once

#include <torch/types.h>

#include <cstdint>

#include "worker/random/dropout_mask.h"

namespace p2::random {

// A batch of rows in one stream.
struct RowKey {
  std::uint64_t seed = 0;
  std::uint32_t stream = 0;        // StreamId
  std::uint64_t first_sample = 0;  // g of row 0
  // The same g as an int64 scalar on the CUDA device, which its kernels read when they run. Where it is undefined one
  // is made of first_sample. The CPU reads first_sample alone.
  torch::Tensor device_sample = {};
};

// Whether this build has the kernels for CUDA devices.
bool HasCudaKernels();

// Standard normals in `shape` = (rows, …): element j of a row comes from block first_block + j / 4.
torch::Tensor Normal(const RowKey& key, at::IntArrayRef shape, std::uint32_t first_block = 0,
                     torch::Device device = torch::kCPU);

// Blocks that one row of `elements` normals takes: ceil(elements / 4).
std::uint32_t NormalBlocks(std::int64_t elements);

// Timesteps t = (u32 * T) >> 32, int64, (rows). REQUIRES: key.stream = kTimestepStream to be the training map's.
torch::Tensor Timesteps(const RowKey& key, std::int64_t rows, std::int64_t num_timesteps,
                        torch::Device device = torch::kCPU);

// Uniform in (-bound, bound), `shape`, all one row g = first_sample: element j from word j mod 4 of block j / 4.
torch::Tensor SymmetricUniform(const RowKey& key, at::IntArrayRef shape, double bound);

// Dropout of x (B, C, H, W), float32 or bfloat16: the mask is a function of (key, position), drawn again in the
// backward pass. Autograd goes through. Element order is logical NCHW.
torch::Tensor Dropout(const torch::Tensor& x, const RowKey& key, DropoutRate rate);

}  // namespace p2::random
