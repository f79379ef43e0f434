#include "worker/random/normal.h"

#include <algorithm>
#include <cstring>

#include "worker/random/box_muller.h"
#include "worker/random/philox_batch.h"

namespace p2::random {

P2_VECTOR_CLONES void FillNormal(std::uint64_t seed, std::uint32_t stream, std::uint64_t g, std::uint32_t first_block,
                                 float* out, std::size_t count) {
  WordsBatch draws;
  float z[4][kBatch];
  float interleaved[4 * kBatch];
  for (std::size_t done = 0; done < count; done += 4 * kBatch) {
    DrawBatch(seed, stream, g, first_block + static_cast<std::uint32_t>(done / 4), &draws);
    for (int i = 0; i < kBatch; ++i) BoxMuller(draws.w[0][i], draws.w[1][i], &z[0][i], &z[1][i]);
    for (int i = 0; i < kBatch; ++i) BoxMuller(draws.w[2][i], draws.w[3][i], &z[2][i], &z[3][i]);
    for (int i = 0; i < kBatch; ++i) {
      for (int k = 0; k < 4; ++k) interleaved[4 * i + k] = z[k][i];
    }
    std::memcpy(out + done, interleaved, std::min<std::size_t>(4 * kBatch, count - done) * sizeof(float));
  }
}

}  // namespace p2::random
