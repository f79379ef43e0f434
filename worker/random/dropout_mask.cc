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

namespace {

inline float Scaled(float x, float scale) { return x * scale; }

inline std::uint16_t Scaled(std::uint16_t x, float scale) {
  const auto bits = std::bit_cast<std::uint32_t>(std::bit_cast<float>(std::uint32_t{x} << 16) * scale);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);  // A NaN of 16 bits stays one.
}

template <typename T>
[[gnu::always_inline]] inline void Apply(std::uint64_t seed, std::uint32_t stream, std::uint64_t g,
                                         std::uint32_t first_block, DropoutRate rate, const T* in, T* out,
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
    const T* source = in + done;
    T* target = out + done;
    if (count - done >= kElements) {
      for (std::size_t j = 0; j < kElements; ++j)
        target[j] = lanes[j] >= rate.threshold ? Scaled(source[j], rate.scale) : T{0};
    } else {
      for (std::size_t j = 0; j < count - done; ++j) {
        target[j] = lanes[j] >= rate.threshold ? Scaled(source[j], rate.scale) : T{0};
      }
    }
  }
}

}  // namespace

P2_VECTOR_CLONES void ApplyDropoutMask(std::uint64_t seed, std::uint32_t stream, std::uint64_t g,
                                       std::uint32_t first_block, DropoutRate rate, const float* in, float* out,
                                       std::size_t count) {
  Apply(seed, stream, g, first_block, rate, in, out, count);
}

P2_VECTOR_CLONES void ApplyDropoutMask(std::uint64_t seed, std::uint32_t stream, std::uint64_t g,
                                       std::uint32_t first_block, DropoutRate rate, const std::uint16_t* in,
                                       std::uint16_t* out, std::size_t count) {
  Apply(seed, stream, g, first_block, rate, in, out, count);
}

}  // namespace p2::random
