// JPEG and PNG to 8-bit pixels, byte for byte what Pillow 13 gives for Image.open(f).convert("RGB") (or "L").
//
// JPEG (libjpeg-turbo, ISLOW DCT, fancy upsampling): grey, YCbCr, RGB, CMYK and YCCK (read as Adobe writes them,
// inverted). PNG (libspng): every type. Palettes go through their colours (an index without a colour is black); alpha
// and tRNS are dropped without compositing; 1, 2 and 4 bits are stretched to 0..255; 16-bit colour (and grey with
// alpha) keeps its high byte, 16-bit grey without alpha is clipped to 255, as Pillow does. Gamma, colour profiles and
// EXIF rotation are not applied. Grey of a colour image is (19595 R + 38470 G + 7471 B + 32768) >> 16; of a grey one,
// the stored grey.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/image/image.h"

namespace p2::image {

inline constexpr int64_t kMaxPixels = 64'000'000;
inline constexpr size_t kMaxFileBytes = size_t{64} << 20;

struct ImageSize {
  int width = 0;
  int height = 0;
};

// Width and height by the file's header alone, within the limits above. INVALID_ARGUMENT as Decode.
absl::StatusOr<ImageSize> PeekSize(absl::Span<const uint8_t> file);

// `file`: the bytes of a whole JPEG or PNG, told apart by their first bytes. `channels`: 3 (RGB) or 1 (grey).
// INVALID_ARGUMENT says what is wrong: neither format, over a limit, cut short, damaged, or a kind that is not
// supported. Thread-safe; needs about 3 bytes a pixel, 9 for a progressive JPEG, 11 for an interlaced PNG of 16 bits.
absl::StatusOr<Image> Decode(absl::Span<const uint8_t> file, int channels = 3);

}  // namespace p2::image
