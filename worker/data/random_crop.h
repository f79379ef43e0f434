// The random square of an image that a training sample shows, as the published code's random_crop_arr
// (guided-diffusion, image_datasets.py), but drawn from the map of random numbers: stream "crop", block 0 of sample g.
//   side = least + floor(w0 (most - least + 1) / 2^32)   pixels that the image is resized to
//   top  = floor(w1 (side - size + 1) / 2^32),  left the same of w2
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/spec/random_crop.h"

namespace p2::data {

struct CropOptions {
  int size = 0;           // Side of the square. REQUIRES: >= 1.
  spec::CropSides sides;  // REQUIRES: size <= least <= most.
};

struct Crop {
  int side = 0;
  int top = 0;
  int left = 0;
};

// The crop of sample `g`.
Crop CropOf(uint64_t seed, uint64_t g, const CropOptions& options);

// `record`: (channels, resolution, resolution); it is resized to crop.side as CenterCropAdm resizes (box halvings, then
// bicubic), and the square of `size` at (top, left) goes to `out`: (channels, size, size). channels: 1 or 3.
// REQUIRES: the spans have these sizes, and the square lies inside. INVALID_ARGUMENT as PillowResize. Thread-safe.
absl::Status CropRecord(absl::Span<const uint8_t> record, int channels, int resolution, const Crop& crop, int size,
                        absl::Span<uint8_t> out);

}  // namespace p2::data
