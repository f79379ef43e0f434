// Many Philox draws at once for the CPU kernels of this directory: plain loops that the compiler vectorizes.
#pragma once

#include <cstdint>

#include "worker/random/philox.h"

// One copy a CPU capability, chosen at load time. These files are compiled without contraction to fused multiply-add,
// so every copy gives the same bits.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define P2_VECTOR_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define P2_VECTOR_CLONES
#endif

namespace p2::random {

inline constexpr int kBatch = 64;  // Draws of one call.

struct WordsBatch {
  std::uint32_t w[4][kBatch];  // [word][draw]
};

// The draws first_block … first_block + kBatch - 1 of sample g.
[[gnu::always_inline]] inline void DrawBatch(std::uint64_t seed, std::uint32_t stream, std::uint64_t g,
                                             std::uint32_t first_block, WordsBatch* out) {
  for (int i = 0; i < kBatch; ++i) {
    const Words words = Draw(seed, stream, g, first_block + static_cast<std::uint32_t>(i));
    for (int k = 0; k < 4; ++k) out->w[k][i] = words.w[k];
  }
}

}  // namespace p2::random
