// JPEG, PNG, WebP and GIF to 8-bit pixels, byte for byte what Pillow 13 gives for Image.open(f).convert("RGB") (or
// "L").
//
// JPEG (libjpeg-turbo, ISLOW DCT, fancy upsampling): grey, YCbCr, RGB, CMYK and YCCK (read as Adobe writes them,
// inverted). PNG (libspng): every type. Palettes go through their colours (an index without a colour is black); alpha
// and tRNS are dropped without compositing; 1, 2 and 4 bits are stretched to 0..255; 16-bit colour (and grey with
// alpha) keeps its high byte, 16-bit grey without alpha is clipped to 255, as Pillow does. WebP (libwebp): alpha is
// dropped; of an animation the first frame on its canvas, black around it. GIF: the first frame on its canvas, which
// grows with it; around it the transparent colour, or colour 0. Gamma and colour profiles are not applied, nor is EXIF
// rotation unless asked for. Grey of a colour image is (19595 R + 38470 G + 7471 B + 32768) >> 16; of a grey one, the
// stored grey.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/image/image.h"

namespace p2::image {

inline constexpr int64_t kMaxPixels = 64'000'000;
inline constexpr int64_t kMostPixels = 1'000'000'000;
inline constexpr size_t kMaxFileBytes = size_t{64} << 20;
inline constexpr size_t kMostFileBytes = size_t{1} << 30;

// Against files that unpack to more than a machine has.
struct DecodeLimits {
  // Width times height. 1 to kMostPixels.
  int64_t max_pixels = kMaxPixels;
  // 1 to kMostFileBytes.
  uint64_t max_file_bytes = kMaxFileBytes;
};

struct ImageSize {
  int width = 0;
  int height = 0;
};

// Width and height by the file's header alone, within the limits. INVALID_ARGUMENT as Decode.
absl::StatusOr<ImageSize> PeekSize(absl::Span<const uint8_t> file, const DecodeLimits& limits = {});

// `file`: the bytes of a whole file, its format told by its first bytes. `channels`: 3 (RGB) or 1 (grey).
// INVALID_ARGUMENT says what is wrong: no known format, over a limit (both numbers), cut short, damaged, or a kind that
// is not supported. Thread-safe; needs about 3 bytes a pixel, 7 for a lossless WebP, 9 for a progressive JPEG, 11 for
// an interlaced PNG of 16 bits.
absl::StatusOr<Image> Decode(absl::Span<const uint8_t> file, int channels = 3, const DecodeLimits& limits = {});

// EXIF orientation 1 to 8 of a JPEG, PNG (eXIf) or WebP, or the one that its XMP names; 1 if there is none. Never
// fails.
int ExifOrientation(absl::Span<const uint8_t> file);

// The image turned upright as Pillow's ImageOps.exif_transpose does; other values than 2 to 8 leave it.
Image Upright(Image image, int orientation);

}  // namespace p2::image
