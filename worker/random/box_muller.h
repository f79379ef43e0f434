// The arithmetic between a draw and its normals, for host and device (C++17). Logarithm, sine and cosine are
// polynomials of Cephes (logf, sinf, cosf) rather than a library's: the bits are the same on every CPU, and loops over
// them vectorize.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "worker/random/philox.h"

namespace p2::random {

// Uniform in (0, 1) from the upper 24 bits of a draw, rounded to float: (floor(word / 2^8) + 1/2) / 2^24.
P2_HOST_DEVICE constexpr float Uniform24(std::uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1p-24f + 0x1p-25f;
}

namespace internal {

P2_HOST_DEVICE inline std::uint32_t BitsOf(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

P2_HOST_DEVICE inline float FloatOf(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// ln u for u in (0, 1], by a polynomial on [sqrt(1/2), sqrt(2)).
P2_HOST_DEVICE inline float Log(float u) {
  const std::uint32_t bits = BitsOf(u) - 0x3F3504F3u;  // Counted from sqrt(1/2).
  const auto exponent = static_cast<float>(static_cast<std::int32_t>(bits) >> 23);
  const float x = FloatOf((bits & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
  const float xx = x * x;
  float p = 7.0376836292e-2f;
  p = p * x - 1.1514610310e-1f;
  p = p * x + 1.1676998740e-1f;
  p = p * x - 1.2420140846e-1f;
  p = p * x + 1.4249322787e-1f;
  p = p * x - 1.6668057665e-1f;
  p = p * x + 2.0000714765e-1f;
  p = p * x - 2.4999993993e-1f;
  p = p * x + 3.3333331174e-1f;
  const float tail = x * xx * p + exponent * -2.12194440e-4f - 0.5f * xx;
  return x + tail + exponent * 0.693359375f;
}

// cos and sin of 2 pi u for u in [0, 1]; the quadrant is split off exactly.
P2_HOST_DEVICE inline void CosSinTurns(float u, float* cosine, float* sine) {
  const float quarters = 4.0f * u;
  const auto quadrant = static_cast<std::int32_t>(quarters + 0.5f);
  const float x = (quarters - static_cast<float>(quadrant)) * 1.57079632679489662f;  // In [-pi/4, pi/4].
  const float xx = x * x;
  const float s = ((-1.9515295891e-4f * xx + 8.3321608736e-3f) * xx - 1.6666654611e-1f) * xx * x + x;
  const float c =
      ((2.443315711809948e-5f * xx - 1.388731625493765e-3f) * xx + 4.166664568298827e-2f) * xx * xx - 0.5f * xx + 1.0f;
  const bool odd = (quadrant & 1) != 0;
  const auto turned = static_cast<std::uint32_t>(quadrant);
  *cosine = FloatOf(BitsOf(odd ? s : c) ^ (((turned + 1u) & 2u) << 30));
  *sine = FloatOf(BitsOf(odd ? c : s) ^ ((turned & 2u) << 30));
}

}  // namespace internal

// Two normals of two words: r = sqrt(-2 ln U(radius)), r cos(2 pi U(angle)) and r sin(2 pi U(angle)).
P2_HOST_DEVICE inline void BoxMuller(std::uint32_t radius, std::uint32_t angle, float* z0, float* z1) {
  const float r = std::sqrt(-2.0f * internal::Log(Uniform24(radius)));
  float cosine, sine;
  internal::CosSinTurns(Uniform24(angle), &cosine, &sine);
  *z0 = r * cosine;
  *z1 = r * sine;
}

}  // namespace p2::random
