#include "worker/optim/blocked_norm.h"

#include <ATen/ATen.h>

#include <cstdint>

namespace p2::optim {

at::Tensor BlockedNorm(const at::Tensor& flat) {
  constexpr int64_t kBlock = 65536;
  const int64_t blocks = flat.numel() / kBlock;
  if (blocks == 0) return at::linalg_vector_norm(flat);
  const at::Tensor whole = flat.narrow(0, 0, blocks * kBlock).view({blocks, kBlock});
  const at::Tensor rest = flat.narrow(0, blocks * kBlock, flat.numel() - blocks * kBlock);
  const at::Tensor norms = at::linalg_vector_norm(whole, 2, at::IntArrayRef{1});  // (blocks)
  return at::linalg_vector_norm(at::cat({norms, at::linalg_vector_norm(rest).reshape({1})}));
}

}  // namespace p2::optim
