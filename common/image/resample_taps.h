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

// Which of the two passes Pillow 13 makes first: the horizontal one, unless the image loses rows, and more than twice
// as many rows as columns (tall images). The rounding between the passes makes that visible. (Found by comparing 18,000
// resizes with Pillow 13.0.0; Pillow up to 12 always starts with the horizontal pass.)
bool VerticalPassFirst(int in_width, int in_height, int out_width, int out_height);

}  // namespace p2::image
