// Standard normal numbers of the random map, on the CPU.
//
// Block i of (seed, stream, g) gives elements 4i … 4i+3: BoxMuller (box_muller.h) of words 0 and 1, then of 2 and 3.
// Within 4 ulp of the exact value of the formula, the same bits on every CPU. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>

namespace p2::random {

// Writes `count` normals to `out`: element j comes from block first_block + j / 4.
void FillNormal(std::uint64_t seed, std::uint32_t stream, std::uint64_t g, std::uint32_t first_block, float* out,
                std::size_t count);

}  // namespace p2::random
