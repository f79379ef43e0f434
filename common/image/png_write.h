// PNG files of 8-bit images, and sheets of many.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/image/image.h"

namespace p2::image {

// The file's bytes: RGB or grey, 8 bits, no ancillary chunks; equal images give equal bytes.
// INVALID_ARGUMENT if the image's fields do not fit each other.
absl::StatusOr<std::string> EncodePng(const Image& image);

// EncodePng to `path`: written beside it, fsynced, renamed over it. The errno's code with the path if that fails.
absl::Status WritePng(const Image& image, const std::string& path);

// A sheet of equal-sized images, row by row, `columns` a row, `padding` black pixels around and between them.
// INVALID_ARGUMENT if there is no image, columns < 1, padding < 0, or sizes or channels differ.
absl::StatusOr<Image> MakeGrid(absl::Span<const Image> images, int columns, int padding);

// Every pixel as a `factor` x `factor` square: small sheets that a person shall look at. REQUIRES: factor >= 1.
Image Magnify(const Image& image, int factor);

}  // namespace p2::image
