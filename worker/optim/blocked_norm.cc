#include "worker/optim/blocked_norm.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace p2::optim {
namespace {

constexpr int64_t kBlock = 65536;
constexpr int64_t kChunk = 64 * kBlock;

}  // namespace

at::Tensor BlockedNorm(const at::Tensor& flat) {
  const int64_t blocks = flat.numel() / kBlock;
  if (blocks == 0) return at::linalg_vector_norm(flat);
  const at::Tensor whole = flat.narrow(0, 0, blocks * kBlock).view({blocks, kBlock});
  const at::Tensor rest = flat.narrow(0, blocks * kBlock, flat.numel() - blocks * kBlock);
  const at::Tensor norms = at::linalg_vector_norm(whole, 2, at::IntArrayRef{1});  // (blocks)
  return at::linalg_vector_norm(at::cat({norms, at::linalg_vector_norm(rest).reshape({1})}));
}

at::Tensor RelativeDistance(const at::Tensor& average, const at::Tensor& params) {
  std::vector<at::Tensor> parts;
  for (int64_t begin = 0; begin < params.numel(); begin += kChunk) {
    const int64_t size = std::min(kChunk, params.numel() - begin);
    parts.push_back(BlockedNorm(average.narrow(0, begin, size) - params.narrow(0, begin, size)).to(at::kDouble));
  }
  return at::linalg_vector_norm(at::stack(parts)) / BlockedNorm(params).to(at::kDouble);
}

}  // namespace p2::optim
