// Sizes of a random crop as the published code's random_crop_arr (guided-diffusion, image_datasets.py) draws them.
#pragma once

#include <cmath>

namespace p2::spec {

// Sides in pixels that an image may be resized to before `image_size` of them are cut out, both included.
struct CropSides {
  int least = 0;
  int most = 0;
};

// ceil(image_size / max_fraction) and ceil(image_size / min_fraction). REQUIRES: image_size >= 1,
// 0 < min_fraction <= max_fraction <= 1, and results that an int holds.
inline CropSides RandomCropSides(int image_size, double min_fraction, double max_fraction) {
  return {static_cast<int>(std::ceil(image_size / max_fraction)),
          static_cast<int>(std::ceil(image_size / min_fraction))};
}

}  // namespace p2::spec
