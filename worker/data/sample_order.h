// Which image a training sample shows: a new random permutation of the dataset in every epoch; any sample costs O(1).
//
// Sample g of the run (images seen) lies in epoch e = floor(g / N) at position p = g mod N. Its image is P_e(p), where
// P_e is a Feistel network of 8 rounds on numbers of 2h bits, h = max(1, ceil(bits(N - 1) / 2)), walked until the
// result is below N:
//   x = L * 2^h + R;  round r = 0..7: (L, R) <- (R, L xor (F_r(R) mod 2^h))
//   F_r(R) = word r mod 4 of Philox4x32-10(key = seed, counter = (R + 2^31 floor(r / 4), e low, e high, "order"))
// Each walk is a bijection of 0..N-1 and visits fewer than 4 numbers on average. (With 4 rounds, sets of ten images
// show a bias.) Nothing is stored: a resumed run, and any split over ranks, see the same images. Batches cross the ends
// of epochs.
#pragma once

#include <cstdint>

namespace p2::data {

// Thread-safe.
class SampleOrder {
 public:
  // REQUIRES: 1 <= count <= 2^62, the number of images.
  SampleOrder(uint64_t seed, uint64_t count);

  // The image of sample `g`, in 0..count-1.
  uint64_t ImageOf(uint64_t g) const;

  uint64_t count() const { return count_; }

 private:
  uint64_t Permute(uint64_t x, uint64_t epoch) const;

  const uint64_t seed_;
  const uint64_t count_;
  const int half_bits_;
};

}  // namespace p2::data
