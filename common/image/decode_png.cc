#include <spng.h>

#include <array>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/image/codec.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

struct FreeContext {
  void operator()(spng_ctx* ctx) const { spng_ctx_free(ctx); }
};
using Context = std::unique_ptr<spng_ctx, FreeContext>;

absl::Status PngError(int code) {
  if (code == SPNG_IO_EOF) return absl::InvalidArgumentError("PNG: the file ends before the picture does");
  return absl::InvalidArgumentError(absl::StrCat("PNG: ", spng_strerror(code)));
}

uint32_t BigEndian32(const uint8_t* in) { return uint32_t{in[0]} << 24 | in[1] << 16 | in[2] << 8 | in[3]; }

absl::StatusOr<Context> OpenPng(absl::Span<const uint8_t> file, int64_t max_pixels, spng_ihdr& header) {
  // Before spng looks: it has limits of its own, which do not name the numbers.
  if (file.size() >= 24 && std::memcmp(&file[12], "IHDR", 4) == 0) {
    P2_RETURN_IF_ERROR(CheckSize(BigEndian32(&file[16]), BigEndian32(&file[20]), max_pixels));
  }
  Context ctx(spng_ctx_new(0));
  if (ctx == nullptr) return absl::ResourceExhaustedError("PNG: out of memory");
  // A chunk (a colour profile, a text) may inflate to this much at most, all of them together to twice as much.
  spng_set_chunk_limits(ctx.get(), kMaxFileBytes, 2 * kMaxFileBytes);
  if (int code = spng_set_png_buffer(ctx.get(), file.data(), file.size())) return PngError(code);
  if (int code = spng_get_ihdr(ctx.get(), &header)) return PngError(code);
  return ctx;
}

// Turns rows as the file stores them (16 bits in host order) into 8-bit grey or RGB.
class RowConverter {
 public:
  RowConverter(const spng_ihdr& header, const spng_plte& palette, int channels)
      : width_(header.width), depth_(header.bit_depth), type_(header.color_type), channels_(channels) {
    for (uint32_t i = 0; i < palette.n_entries && i < palette_.size(); ++i) {
      palette_[i] = {palette.entries[i].red, palette.entries[i].green, palette.entries[i].blue};
    }
  }

  void operator()(const uint8_t* in, uint8_t* out) const {
    for (uint32_t x = 0; x < width_; ++x, out += channels_) {
      switch (type_) {
        case SPNG_COLOR_TYPE_GRAYSCALE:
          PutGrey(depth_ == 16 ? Clip(At16(in, x)) : Packed(in, x) * (255 / ((1 << depth_) - 1)), out);
          break;
        case SPNG_COLOR_TYPE_GRAYSCALE_ALPHA:
          PutGrey(Component(in, 2 * size_t{x}), out);
          break;
        case SPNG_COLOR_TYPE_INDEXED: {
          const std::array<uint8_t, 3>& colour = palette_[Packed(in, x)];
          PutColour(colour[0], colour[1], colour[2], out);
          break;
        }
        default: {
          const size_t i = size_t{x} * (type_ == SPNG_COLOR_TYPE_TRUECOLOR_ALPHA ? 4 : 3);
          PutColour(Component(in, i), Component(in, i + 1), Component(in, i + 2), out);
        }
      }
    }
  }

 private:
  static uint16_t At16(const uint8_t* in, size_t i) {
    uint16_t value;
    std::memcpy(&value, in + 2 * i, sizeof(value));
    return value;
  }
  static uint8_t Clip(uint16_t value) { return static_cast<uint8_t>(value > 255 ? 255 : value); }
  // Sample x of 1, 2, 4 or 8 bits.
  uint8_t Packed(const uint8_t* in, size_t x) const {
    const size_t bit = x * depth_;
    return static_cast<uint8_t>(in[bit / 8] >> (8 - depth_ - bit % 8) & ((1 << depth_) - 1));
  }
  // Component i of 8 or 16 bits; the high byte.
  uint8_t Component(const uint8_t* in, size_t i) const {
    return depth_ == 16 ? static_cast<uint8_t>(At16(in, i) >> 8) : in[i];
  }
  void PutGrey(uint8_t grey, uint8_t* out) const { std::memset(out, grey, channels_); }
  void PutColour(uint8_t r, uint8_t g, uint8_t b, uint8_t* out) const {
    if (channels_ == 1) {
      *out = Luma(r, g, b);
    } else {
      out[0] = r, out[1] = g, out[2] = b;
    }
  }

  const uint32_t width_;
  const int depth_;
  const int type_;
  const int channels_;
  std::array<std::array<uint8_t, 3>, 256> palette_ = {};  // A colour the file does not give is black.
};

}  // namespace

absl::StatusOr<ImageSize> PeekPng(absl::Span<const uint8_t> file, int64_t max_pixels) {
  spng_ihdr header;
  P2_ASSIGN_OR_RETURN(const Context ctx, OpenPng(file, max_pixels, header));
  return ImageSize{static_cast<int>(header.width), static_cast<int>(header.height)};
}

absl::StatusOr<Image> DecodePng(absl::Span<const uint8_t> file, int channels, int64_t max_pixels) {
  spng_ihdr header;
  P2_ASSIGN_OR_RETURN(const Context ctx, OpenPng(file, max_pixels, header));
  spng_plte palette = {};
  if (header.color_type == SPNG_COLOR_TYPE_INDEXED) {
    if (int code = spng_get_plte(ctx.get(), &palette)) return PngError(code);
  }
  size_t stored_bytes = 0;
  if (int code = spng_decoded_image_size(ctx.get(), SPNG_FMT_PNG, &stored_bytes)) return PngError(code);
  if (int code = spng_decode_image(ctx.get(), nullptr, 0, SPNG_FMT_PNG, SPNG_DECODE_PROGRESSIVE)) return PngError(code);

  Image image{static_cast<int>(header.width), static_cast<int>(header.height), channels};
  image.pixels.resize(image.row_bytes() * image.height);
  const RowConverter convert(header, palette, channels);
  // Interlaced rows come several times, a few pixels more each time: those pictures are kept whole.
  const bool interlaced = header.interlace_method != SPNG_INTERLACE_NONE;
  const size_t stored_row_bytes = stored_bytes / header.height;
  std::vector<uint8_t> stored(interlaced ? stored_bytes : stored_row_bytes);
  for (;;) {
    spng_row_info info;
    int code = spng_get_row_info(ctx.get(), &info);
    if (code == SPNG_EOI) break;
    if (code != 0) return PngError(code);
    uint8_t* row = stored.data() + (interlaced ? stored_row_bytes * info.row_num : 0);
    code = spng_decode_row(ctx.get(), row, stored_row_bytes);
    if (code != 0 && code != SPNG_EOI) return PngError(code);
    if (!interlaced) convert(row, image.pixels.data() + image.row_bytes() * info.row_num);
    if (code == SPNG_EOI) break;
  }
  for (int y = 0; interlaced && y < image.height; ++y) {
    convert(stored.data() + stored_row_bytes * y, image.pixels.data() + image.row_bytes() * y);
  }
  return image;
}

}  // namespace p2::image
