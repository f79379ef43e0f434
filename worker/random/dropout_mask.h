// Dropout's mask as a function of position, on the CPU: nothing is stored, the backward pass draws it again.
#pragma once

#include <cstddef>
#include <cstdint>

namespace p2::random {

// Elements are kept where their 16-bit lane is at least `threshold`, and multiplied by `scale`.
struct DropoutRate {
  std::uint32_t threshold = 0;  // q = round(65536 p)
  float scale = 1.0f;           // 65536 / (65536 - q)

  // REQUIRES: 0 <= p < 1 - 2^-17, so that q < 65536.
  static DropoutRate FromProbability(double p);
};

// out[j] = mask_j * in[j] for elements j = 8 first_block … of sample g in logical (C, H, W) order; block i of the
// stream holds the lanes of elements 8i … 8i+7. `out` may be `in`. Thread-safe.
void ApplyDropoutMask(std::uint64_t seed, std::uint32_t stream, std::uint64_t g, std::uint32_t first_block,
                      DropoutRate rate, const float* in, float* out, std::size_t count);

// The same of bfloat16 (as bits): the product is fp32's, rounded to nearest even.
void ApplyDropoutMask(std::uint64_t seed, std::uint32_t stream, std::uint64_t g, std::uint32_t first_block,
                      DropoutRate rate, const std::uint16_t* in, std::uint16_t* out, std::size_t count);

}  // namespace p2::random
