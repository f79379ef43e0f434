#include "worker/random/dropout_mask.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "worker/random/philox_batch.h"

namespace p2::random {

static_assert(std::endian::native == std::endian::little, "lanes are read as the halves of words in memory");

DropoutRate DropoutRate::FromProbability(double p) {
  const auto threshold = static_cast<std::uint32_t>(std::lround(65536.0 * p));
  return {threshold, static_cast<float>(65536.0 / (65536.0 - threshold))};
}

P2_VECTOR_CLONES void ApplyDropoutMask(std::uint64_t seed, std::uint32_t stream, std::uint64_t g,
                                       std::uint32_t first_block, DropoutRate rate, const float* in, float* out,
                                       std::size_t count) {
  constexpr std::size_t kElements = 8 * kBatch;
  WordsBatch draws;
  std::uint32_t interleaved[4 * kBatch];
  std::uint16_t lanes[kElements];
  for (std::size_t done = 0; done < count; done += kElements) {
    DrawBatch(seed, stream, g, first_block + static_cast<std::uint32_t>(done / 8), &draws);
    for (int i = 0; i < kBatch; ++i) {
      for (int k = 0; k < 4; ++k) interleaved[4 * i + k] = draws.w[k][i];
    }
    std::memcpy(lanes, interleaved, sizeof(lanes));
    const float* source = in + done;
    float* target = out + done;
    if (count - done >= kElements) {
      for (std::size_t j = 0; j < kElements; ++j)
        target[j] = lanes[j] >= rate.threshold ? source[j] * rate.scale : 0.0f;
    } else {
      for (std::size_t j = 0; j < count - done; ++j) {
        target[j] = lanes[j] >= rate.threshold ? source[j] * rate.scale : 0.0f;
      }
    }
  }
}

}  // namespace p2::random
