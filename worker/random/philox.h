// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel Random Numbers: As Easy as 1, 2, 3", SC'11), the counter-based
// generator under every random number of p2. Randomness is a map, not a state: a draw is a pure function of
//   key = seed (64 bits), counter = (block, g low, g high, stream),
// g being the index of the sample in the run, so that ranks, restarts and prefetching never change a number.
// Plain C++17 without includes of p2, for host and device (nvcc) alike. Thread-safe: no state.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define P2_HOST_DEVICE __host__ __device__
#else
#define P2_HOST_DEVICE
#endif

namespace p2::random {

// Four 32-bit words: one counter, or the draw of one counter.
struct Words {
  std::uint32_t w[4];
};

inline constexpr std::uint32_t kPhiloxMultiplier0 = 0xD2511F53u;
inline constexpr std::uint32_t kPhiloxMultiplier1 = 0xCD9E8D57u;
inline constexpr std::uint32_t kPhiloxWeyl0 = 0x9E3779B9u;  // Added to the key after each round.
inline constexpr std::uint32_t kPhiloxWeyl1 = 0xBB67AE85u;
inline constexpr int kPhiloxRounds = 10;

// The block cipher itself: `counter` under the key (k0, k1).
P2_HOST_DEVICE constexpr Words Philox4x32(Words counter, std::uint32_t k0, std::uint32_t k1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const std::uint64_t p0 = std::uint64_t{kPhiloxMultiplier0} * counter.w[0];
    const std::uint64_t p1 = std::uint64_t{kPhiloxMultiplier1} * counter.w[2];
    counter = Words{{static_cast<std::uint32_t>(p1 >> 32) ^ counter.w[1] ^ k0, static_cast<std::uint32_t>(p1),
                     static_cast<std::uint32_t>(p0 >> 32) ^ counter.w[3] ^ k1, static_cast<std::uint32_t>(p0)}};
    k0 += kPhiloxWeyl0;
    k1 += kPhiloxWeyl1;
  }
  return counter;
}

// Draw number `block` of sample `g` in `stream` (StreamId of streams.h) of the run keyed by `seed`.
P2_HOST_DEVICE constexpr Words Draw(std::uint64_t seed, std::uint32_t stream, std::uint64_t g, std::uint32_t block) {
  return Philox4x32(Words{{block, static_cast<std::uint32_t>(g), static_cast<std::uint32_t>(g >> 32), stream}},
                    static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
}

// A scalar of the sample: word 0 of block 0.
P2_HOST_DEVICE constexpr std::uint32_t DrawScalar(std::uint64_t seed, std::uint32_t stream, std::uint64_t g) {
  return Draw(seed, stream, g, 0).w[0];
}

// Maps a 32-bit draw onto 0 … n-1: floor(u n / 2^32).
P2_HOST_DEVICE constexpr std::uint32_t ScaleToRange(std::uint32_t u, std::uint32_t n) {
  return static_cast<std::uint32_t>((std::uint64_t{u} * n) >> 32);
}

// 16-bit lane `i` (0 … 7) of a draw, low half of each word first.
P2_HOST_DEVICE constexpr std::uint32_t Lane16(const Words& words, unsigned i) {
  return (words.w[i >> 1] >> (16 * (i & 1u))) & 0xFFFFu;
}

}  // namespace p2::random
