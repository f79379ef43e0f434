// libjpeg reports errors by a call that must not return. Everything between setjmp and longjmp is plain C data: objects
// with destructors live outside, in JpegDecoder, so a jump skips none.
#include <csetjmp>
#include <cstring>
#include <string>

// jpeglib.h does not include what it needs, so the order matters.
// clang-format off
#include <cstdio>
#include <jpeglib.h>
#include <jerror.h>
// clang-format on

#include "absl/strings/str_cat.h"
#include "common/image/codec.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

// A progressive file may hold any number of scans, each costing a pass over the whole picture; real ones about ten.
constexpr int kMaxScans = 100;

// Pillow's unpacked CMYK -> RGB, `in` as stored by Adobe (inverted).
void CmykToRgb(const uint8_t* in, uint8_t* out, int width) {
  for (int x = 0; x < width; ++x, in += 4, out += 3) {
    const int not_black = in[3];
    for (int c = 0; c < 3; ++c) {
      const unsigned ink = 255 - in[c];
      const unsigned scaled = ink * not_black + 128;
      const int value = not_black - static_cast<int>((scaled + (scaled >> 8)) >> 8);
      out[c] = static_cast<uint8_t>(value < 0 ? 0 : value);
    }
  }
}

class JpegDecoder {
 public:
  explicit JpegDecoder(absl::Span<const uint8_t> file) {
    cinfo_.err = jpeg_std_error(&errors_);
    cinfo_.client_data = this;
    errors_.error_exit = [](j_common_ptr cinfo) { Self(cinfo)->Fail(cinfo); };
    errors_.emit_message = [](j_common_ptr, int) {};  // Warnings: Pillow decodes on, too.
    source_.next_input_byte = file.data();
    source_.bytes_in_buffer = file.size();
    source_.init_source = [](j_decompress_ptr) {};
    source_.term_source = [](j_decompress_ptr) {};
    source_.resync_to_restart = jpeg_resync_to_restart;
    source_.fill_input_buffer = [](j_decompress_ptr cinfo) -> boolean { Self(cinfo)->FailCutShort(); };
    source_.skip_input_data = [](j_decompress_ptr cinfo, long bytes) {
      if (bytes <= 0) return;
      if (static_cast<size_t>(bytes) > cinfo->src->bytes_in_buffer) Self(cinfo)->FailCutShort();
      cinfo->src->next_input_byte += bytes;
      cinfo->src->bytes_in_buffer -= bytes;
    };
    progress_.progress_monitor = [](j_common_ptr cinfo) {
      if (cinfo->is_decompressor && reinterpret_cast<j_decompress_ptr>(cinfo)->input_scan_number > kMaxScans) {
        Self(cinfo)->FailWith("more scans than a real picture has");
      }
    };
  }
  ~JpegDecoder() { jpeg_destroy_decompress(&cinfo_); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  absl::StatusOr<ImageSize> ReadHeader(int64_t max_pixels) {
    if (setjmp(jump_) != 0) return Error();
    jpeg_create_decompress(&cinfo_);
    cinfo_.src = &source_;
    cinfo_.progress = &progress_;
    jpeg_read_header(&cinfo_, TRUE);
    P2_RETURN_IF_ERROR(CheckSize(cinfo_.image_width, cinfo_.image_height, max_pixels));
    return ImageSize{static_cast<int>(cinfo_.image_width), static_cast<int>(cinfo_.image_height)};
  }

  // After ReadHeader. `image` has its width, height and `channels`; `row` is scratch.
  absl::Status ReadPixels(Image& image, std::vector<uint8_t>& row) {
    switch (cinfo_.num_components) {
      case 1:
        cinfo_.out_color_space = JCS_GRAYSCALE;
        break;
      case 3:
        cinfo_.out_color_space = JCS_RGB;
        break;
      case 4:
        cinfo_.out_color_space = JCS_CMYK;
        break;
      default:
        return absl::InvalidArgumentError(
            absl::StrCat("JPEG: ", cinfo_.num_components, " components are not supported"));
    }
    row.resize(size_t{cinfo_.image_width} * 7);  // Up to four components as stored, then RGB.
    if (setjmp(jump_) != 0) return Error();
    jpeg_start_decompress(&cinfo_);
    while (cinfo_.output_scanline < cinfo_.output_height) {
      uint8_t* out = image.pixels.data() + image.row_bytes() * cinfo_.output_scanline;
      JSAMPROW stored = row.data();
      jpeg_read_scanlines(&cinfo_, &stored, 1);
      Convert(row.data(), out, image.channels);
    }
    jpeg_finish_decompress(&cinfo_);
    return absl::OkStatus();
  }

 private:
  template <typename Info>
  static JpegDecoder* Self(Info cinfo) {
    return static_cast<JpegDecoder*>(cinfo->client_data);
  }

  // One row from the stored components to 1 or 3 channels.
  void Convert(uint8_t* row, uint8_t* out, int channels) const {
    const int width = static_cast<int>(cinfo_.image_width);
    if (cinfo_.num_components == 1) {
      for (int x = 0; x < width; ++x) std::memset(out + x * channels, row[x], channels);
      return;
    }
    uint8_t* rgb = row;
    if (cinfo_.num_components == 4) {
      rgb = row + size_t{cinfo_.image_width} * 4;
      CmykToRgb(row, rgb, width);
    }
    if (channels == 3) {
      std::memcpy(out, rgb, size_t{cinfo_.image_width} * 3);
    } else {
      for (int x = 0; x < width; ++x) out[x] = Luma(rgb[3 * x], rgb[3 * x + 1], rgb[3 * x + 2]);
    }
  }

  [[noreturn]] void Fail(j_common_ptr cinfo) {
    (*cinfo->err->format_message)(cinfo, message_);
    std::longjmp(jump_, 1);
  }
  [[noreturn]] void FailWith(const char* message) {
    std::snprintf(message_, sizeof(message_), "%s", message);
    std::longjmp(jump_, 1);
  }
  [[noreturn]] void FailCutShort() { FailWith("the file ends before the picture does"); }
  absl::Status Error() const { return absl::InvalidArgumentError(absl::StrCat("JPEG: ", message_)); }

  jpeg_decompress_struct cinfo_ = {};
  jpeg_error_mgr errors_ = {};
  jpeg_source_mgr source_ = {};
  jpeg_progress_mgr progress_ = {};
  char message_[JMSG_LENGTH_MAX] = {};
  std::jmp_buf jump_;
};

}  // namespace

absl::StatusOr<ImageSize> PeekJpeg(absl::Span<const uint8_t> file, int64_t max_pixels) {
  return JpegDecoder(file).ReadHeader(max_pixels);
}

absl::StatusOr<Image> DecodeJpeg(absl::Span<const uint8_t> file, int channels, int64_t max_pixels) {
  JpegDecoder decoder(file);
  P2_ASSIGN_OR_RETURN(const ImageSize size, decoder.ReadHeader(max_pixels));
  Image image{size.width, size.height, channels};
  image.pixels.resize(image.row_bytes() * image.height);
  std::vector<uint8_t> row;
  P2_RETURN_IF_ERROR(decoder.ReadPixels(image, row));
  return image;
}

}  // namespace p2::image
