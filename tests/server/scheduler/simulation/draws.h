// Random numbers of one decision: a function of its own number alone, so that a decision means the same wherever it
// stands in a list, and a list can be shortened.
#pragma once

#include <cstdint>

namespace p2::scheduler {

// The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
inline uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class Draws {
 public:
  explicit Draws(uint64_t seed) : state_(seed) {}

  uint64_t Next() { return Mix(state_ += 0x9e3779b97f4a7c15u); }
  // In [0, below). REQUIRES: below > 0.
  int Below(int below) { return static_cast<int>(((Next() >> 32) * static_cast<uint64_t>(below)) >> 32); }
  bool Percent(int percent) { return Below(100) < percent; }

 private:
  uint64_t state_;
};

}  // namespace p2::scheduler
