// The resize of Pillow 13, byte for byte, and the crop of the published training code built from it.
//
// Separable, antialiased (the filter's support grows with the reduction), 8-bit rounding after each pass; weights are
// normalised in double and rounded to 22-bit fixed point. A pass that keeps its size is left out. The order of the
// passes is VerticalPassFirst's.
#pragma once

#include "absl/status/statusor.h"
#include "common/image/image.h"
#include "common/image/resample_taps.h"

namespace p2::image {

// INVALID_ARGUMENT if a side of `image` or of the result is below 1, or the result has more than kMostPixels.
absl::StatusOr<Image> PillowResize(const Image& image, int width, int height, Filter filter);

// center_crop_arr of the ADM code: while min(w, h) >= 2R, a box resize to (w / 2, h / 2); then bicubic to
// (round(w s), round(h s)), s = R / min(w, h), halves to even; then the R x R window at ((w - R) / 2, (h - R) / 2).
// Small images are enlarged. INVALID_ARGUMENT if R < 1, the image is empty, or so long that the bicubic size passes
// kMaxPixels.
absl::StatusOr<Image> CenterCropAdm(const Image& image, int resolution);

}  // namespace p2::image
