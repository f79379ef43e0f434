#include "worker/data/sample_order.h"

#include <algorithm>
#include <bit>

#include "worker/random/philox.h"
#include "worker/random/streams.h"

namespace p2::data {

SampleOrder::SampleOrder(uint64_t seed, uint64_t count)
    : seed_(seed), count_(count), half_bits_(std::max(1, static_cast<int>(std::bit_width(count - 1) + 1) / 2)) {}

uint64_t SampleOrder::ImageOf(uint64_t g) const {
  const uint64_t epoch = g / count_;
  uint64_t x = g % count_;
  do {
    x = Permute(x, epoch);
  } while (x >= count_);
  return x;
}

uint64_t SampleOrder::Permute(uint64_t x, uint64_t epoch) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = x >> half_bits_, right = x & mask;
  for (uint32_t round = 0; round < 8; ++round) {
    const uint32_t block = static_cast<uint32_t>(right) + (round / 4 << 31);
    const random::Words words = random::Draw(seed_, random::kOrderStream, epoch, block);
    const uint64_t mixed = left ^ (words.w[round % 4] & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits_ | right;
}

}  // namespace p2::data
