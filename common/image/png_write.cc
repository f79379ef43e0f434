#include "common/image/png_write.h"

#include <spng.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/file_util.h"
#include "common/image/codec.h"
#include "common/status_macros.h"

namespace p2::image {

absl::StatusOr<std::string> EncodePng(const Image& image) {
  if (image.width < 1 || image.height < 1 || (image.channels != 1 && image.channels != 3) ||
      image.pixels.size() != image.row_bytes() * image.height) {
    return absl::InvalidArgumentError(absl::StrCat("no PNG of ", image.width, " x ", image.height, " pixels, ",
                                                   image.channels, " channels and ", image.pixels.size(), " bytes"));
  }
  const std::unique_ptr<spng_ctx, void (*)(spng_ctx*)> ctx(spng_ctx_new(SPNG_CTX_ENCODER), spng_ctx_free);
  spng_ihdr header = {};
  header.width = image.width;
  header.height = image.height;
  header.bit_depth = 8;
  header.color_type = image.channels == 1 ? SPNG_COLOR_TYPE_GRAYSCALE : SPNG_COLOR_TYPE_TRUECOLOR;
  spng_set_option(ctx.get(), SPNG_ENCODE_TO_BUFFER, 1);
  int code = spng_set_ihdr(ctx.get(), &header);
  if (code == 0) {
    code = spng_encode_image(ctx.get(), image.pixels.data(), image.pixels.size(), SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
  }
  size_t size = 0;
  const std::unique_ptr<void, void (*)(void*)> bytes(code == 0 ? spng_get_png_buffer(ctx.get(), &size, &code) : nullptr,
                                                     std::free);
  if (bytes == nullptr) return absl::InternalError(absl::StrCat("PNG encoder: ", spng_strerror(code)));
  return std::string(static_cast<const char*>(bytes.get()), size);
}

absl::Status WritePng(const Image& image, const std::string& path) {
  P2_ASSIGN_OR_RETURN(const std::string bytes, EncodePng(image));
  return ReplaceFile(path, bytes);
}

absl::StatusOr<Image> MakeGrid(absl::Span<const Image> images, int columns, int padding) {
  if (images.empty() || columns < 1 || padding < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("no grid of ", images.size(), " images in ", columns, " columns with padding ", padding));
  }
  const Image& first = images[0];
  for (const Image& image : images) {
    if (image.width != first.width || image.height != first.height || image.channels != first.channels ||
        image.pixels.size() != first.row_bytes() * first.height) {
      return absl::InvalidArgumentError("the images of a grid differ in size or channels");
    }
  }
  const int64_t count = static_cast<int64_t>(images.size());
  const int64_t across = std::min<int64_t>(columns, count), down = (count + columns - 1) / columns;
  const int64_t width = across * (int64_t{first.width} + padding) + padding;
  const int64_t height = down * (int64_t{first.height} + padding) + padding;
  P2_RETURN_IF_ERROR(CheckSize(width, height));
  Image grid{static_cast<int>(width), static_cast<int>(height), first.channels};
  grid.pixels.assign(grid.row_bytes() * grid.height, 0);
  for (int64_t i = 0; i < count; ++i) {
    const size_t left = padding + i % columns * (first.width + padding),
                 top = padding + i / columns * (first.height + padding);
    for (int y = 0; y < first.height; ++y) {
      std::copy_n(images[i].pixels.data() + first.row_bytes() * y, first.row_bytes(),
                  grid.pixels.data() + grid.row_bytes() * (top + y) + left * grid.channels);
    }
  }
  return grid;
}

Image Magnify(const Image& image, int factor) {
  Image large{image.width * factor, image.height * factor, image.channels};
  large.pixels.reserve(large.row_bytes() * large.height);
  for (int y = 0; y < large.height; ++y) {
    const uint8_t* row = image.pixels.data() + image.row_bytes() * (y / factor);
    for (int x = 0; x < large.width; ++x) {
      const uint8_t* pixel = row + x / factor * image.channels;
      large.pixels.insert(large.pixels.end(), pixel, pixel + image.channels);
    }
  }
  return large;
}

}  // namespace p2::image
