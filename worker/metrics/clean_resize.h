// The resize before Inception that clean-fid calls "clean": each channel alone as float32 through Pillow's antialiased
// bicubic filter (mode "F"), sums in double, float32 after each pass, clipped to [0, 255] and not quantised.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "common/image/image.h"

namespace p2::metrics {

inline constexpr int kInceptionSize = 299;

// Returns (C, size, size). The order of the passes is Pillow's (common/image/pillow_resize.h). INVALID_ARGUMENT if the
// image is empty, `size` is below 1, or one of the two has more than image::kMaxPixels.
absl::StatusOr<std::vector<float>> CleanResize(const image::Image& image, int size = kInceptionSize);

}  // namespace p2::metrics
