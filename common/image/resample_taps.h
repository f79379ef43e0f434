// The weights of Pillow's separable resampling, along one axis, in double.
#pragma once

#include <vector>

namespace p2::image {

enum class Filter { kBox, kBicubic };  // Bicubic with a = -0.5.

// Output i is the sum over j < counts[i] of weights[i * stride + j] * input[firsts[i] + j]. The filter's support grows
// with the reduction; the weights of an output add up to 1.
struct ResampleTaps {
  int stride = 0;
  std::vector<int> firsts;
  std::vector<int> counts;
  std::vector<double> weights;
};

// REQUIRES: both sizes are at least 1.
ResampleTaps MakeResampleTaps(int in_size, int out_size, Filter filter);

}  // namespace p2::image
