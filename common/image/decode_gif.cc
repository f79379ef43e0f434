#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/image/codec.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

struct CloseGif {
  void operator()(GifFileType* gif) const { DGifCloseFile(gif, nullptr); }
};

// Reads up to the first frame.
class GifDecoder {
 public:
  explicit GifDecoder(absl::Span<const uint8_t> file) : rest_(file) {}
  GifDecoder(const GifDecoder&) = delete;
  GifDecoder& operator=(const GifDecoder&) = delete;

  absl::StatusOr<ImageSize> ReadHeader(int64_t max_pixels) {
    int code = 0;
    gif_.reset(DGifOpen(this, &GifDecoder::Feed, &code));
    if (gif_ == nullptr) return Error(code);
    for (;;) {
      GifRecordType type;
      if (DGifGetRecordType(gif_.get(), &type) != GIF_OK) return Error(gif_->Error);
      if (type == IMAGE_DESC_RECORD_TYPE) break;
      if (type == TERMINATE_RECORD_TYPE) return absl::InvalidArgumentError("GIF: there is no picture in it");
      if (type == EXTENSION_RECORD_TYPE) P2_RETURN_IF_ERROR(ReadExtension());
    }
    if (DGifGetImageDesc(gif_.get()) != GIF_OK) return Error(gif_->Error);
    const GifImageDesc& frame = gif_->Image;
    if (frame.Width < 1 || frame.Height < 1) return absl::InvalidArgumentError("GIF: a picture of no pixels");
    const int width = std::max(gif_->SWidth, frame.Left + frame.Width);
    const int height = std::max(gif_->SHeight, frame.Top + frame.Height);
    P2_RETURN_IF_ERROR(CheckSize(static_cast<uint64_t>(width), static_cast<uint64_t>(height), max_pixels));
    return ImageSize{width, height};
  }

  // After ReadHeader. `image` has its width, height and channels.
  absl::Status ReadPixels(Image& image) {
    ReadColours(image.channels);
    const size_t channels = static_cast<size_t>(image.channels);
    const uint8_t* around = colours_[transparent_ >= 0 ? transparent_ : 0].data();
    for (size_t i = 0; i < image.pixels.size(); i += channels) std::memcpy(&image.pixels[i], around, channels);
    const GifImageDesc& frame = gif_->Image;
    std::vector<uint8_t> line(static_cast<size_t>(frame.Width));
    const auto read_line = [&](int y) {
      if (DGifGetLine(gif_.get(), line.data(), frame.Width) != GIF_OK) return Error(gif_->Error);
      uint8_t* out = image.pixels.data() + image.row_bytes() * static_cast<size_t>(frame.Top + y) +
                     channels * static_cast<size_t>(frame.Left);
      for (uint8_t index : line) {
        std::memcpy(out, colours_[index].data(), channels);
        out += channels;
      }
      return absl::OkStatus();
    };
    constexpr int kPasses[][2] = {{0, 8}, {4, 8}, {2, 4}, {1, 2}};
    if (!frame.Interlace) {
      for (int y = 0; y < frame.Height; ++y) P2_RETURN_IF_ERROR(read_line(y));
    } else {
      for (const auto& [first, step] : kPasses) {
        for (int y = first; y < frame.Height; y += step) P2_RETURN_IF_ERROR(read_line(y));
      }
    }
    return absl::OkStatus();
  }

 private:
  static int Feed(GifFileType* gif, GifByteType* out, int size) {
    GifDecoder& self = *static_cast<GifDecoder*>(gif->UserData);
    const size_t n = std::min(self.rest_.size(), static_cast<size_t>(size));
    if (n > 0) std::memcpy(out, self.rest_.data(), n);
    self.rest_.remove_prefix(n);
    return static_cast<int>(n);
  }

  static absl::Status Error(int code) {
    if (code == D_GIF_ERR_READ_FAILED || code == D_GIF_ERR_EOF_TOO_SOON) {
      return absl::InvalidArgumentError("GIF: the file ends before the picture does");
    }
    const char* text = GifErrorString(code);
    return absl::InvalidArgumentError(absl::StrCat("GIF: ", text == nullptr ? "the file is damaged" : text));
  }

  absl::Status ReadExtension() {
    int code = 0;
    GifByteType* block = nullptr;
    if (DGifGetExtension(gif_.get(), &code, &block) != GIF_OK) return Error(gif_->Error);
    if (code == GRAPHICS_EXT_FUNC_CODE && block != nullptr && block[0] >= 4 && (block[1] & 1)) transparent_ = block[4];
    while (block != nullptr) {
      if (DGifGetExtensionNext(gif_.get(), &block) != GIF_OK) return Error(gif_->Error);
    }
    return absl::OkStatus();
  }

  // Colours that the file does not give are black; without a palette an index is a grey.
  void ReadColours(int channels) {
    const ColorMapObject* map = gif_->Image.ColorMap != nullptr ? gif_->Image.ColorMap : gif_->SColorMap;
    bool ramp = true;  // Pillow takes a palette of greys in order for none.
    for (int i = 0; map != nullptr && i < map->ColorCount; ++i) {
      const GifColorType& c = map->Colors[i];
      ramp = ramp && c.Red == i && c.Green == i && c.Blue == i;
    }
    for (int i = 0; i < 256; ++i) {
      const uint8_t grey = static_cast<uint8_t>(i);
      GifColorType c = {0, 0, 0};
      if (ramp) {
        c = {grey, grey, grey};
      } else if (i < map->ColorCount) {
        c = map->Colors[i];
      }
      colours_[static_cast<size_t>(i)] = {channels == 1 ? Luma(c.Red, c.Green, c.Blue) : c.Red, c.Green, c.Blue};
    }
  }

  absl::Span<const uint8_t> rest_;
  std::unique_ptr<GifFileType, CloseGif> gif_;
  int transparent_ = -1;
  std::array<std::array<uint8_t, 3>, 256> colours_ = {};
};

}  // namespace

absl::StatusOr<ImageSize> PeekGif(absl::Span<const uint8_t> file, int64_t max_pixels) {
  return GifDecoder(file).ReadHeader(max_pixels);
}

absl::StatusOr<Image> DecodeGif(absl::Span<const uint8_t> file, int channels, int64_t max_pixels) {
  GifDecoder decoder(file);
  P2_ASSIGN_OR_RETURN(const ImageSize size, decoder.ReadHeader(max_pixels));
  Image image{size.width, size.height, channels};
  image.pixels.resize(image.row_bytes() * static_cast<size_t>(image.height));
  P2_RETURN_IF_ERROR(decoder.ReadPixels(image));
  return image;
}

}  // namespace p2::image
