#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "common/image/codec.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

absl::Status WebpError(VP8StatusCode code) {
  switch (code) {
    case VP8_STATUS_NOT_ENOUGH_DATA:
      return absl::InvalidArgumentError("WebP: the file ends before the picture does");
    case VP8_STATUS_OUT_OF_MEMORY:
      return absl::InvalidArgumentError("WebP: out of memory");
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return absl::InvalidArgumentError("WebP: a feature that is not supported");
    default:
      return absl::InvalidArgumentError("WebP: the file is damaged");
  }
}

absl::StatusOr<WebPBitstreamFeatures> Features(absl::Span<const uint8_t> file, int64_t max_pixels) {
  WebPBitstreamFeatures features;
  if (const VP8StatusCode code = WebPGetFeatures(file.data(), file.size(), &features); code != VP8_STATUS_OK) {
    return WebpError(code);
  }
  P2_RETURN_IF_ERROR(
      CheckSize(static_cast<uint64_t>(features.width), static_cast<uint64_t>(features.height), max_pixels));
  return features;
}

// One bitstream into `image` (RGB) at (x, y), where it must fit.
absl::Status DecodeInto(const uint8_t* data, size_t size, int x, int y, Image& image) {
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) return absl::InternalError("libwebp is not the one p2 was built with");
  if (const VP8StatusCode code = WebPGetFeatures(data, size, &config.input); code != VP8_STATUS_OK)
    return WebpError(code);
  if (x < 0 || y < 0 || config.input.width > image.width - x || config.input.height > image.height - y) {
    return absl::InvalidArgumentError("WebP: a frame lies outside the picture");
  }
  const size_t offset = image.row_bytes() * static_cast<size_t>(y) + 3 * static_cast<size_t>(x);
  config.output.colorspace = MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = image.pixels.data() + offset;
  config.output.u.RGBA.stride = static_cast<int>(image.row_bytes());
  config.output.u.RGBA.size = image.pixels.size() - offset;
  const VP8StatusCode code = WebPDecode(data, size, &config);
  WebPFreeDecBuffer(&config.output);
  return code == VP8_STATUS_OK ? absl::OkStatus() : WebpError(code);
}

struct FreeDemuxer {
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};

absl::Status DecodeFirstFrame(absl::Span<const uint8_t> file, Image& image) {
  const WebPData data = {file.data(), file.size()};
  const std::unique_ptr<WebPDemuxer, FreeDemuxer> demuxer(WebPDemux(&data));
  WebPIterator frame;
  if (demuxer == nullptr || !WebPDemuxGetFrame(demuxer.get(), 1, &frame)) {
    return absl::InvalidArgumentError("WebP: the animation is cut short or damaged");
  }
  const absl::Status status =
      frame.complete ? DecodeInto(frame.fragment.bytes, frame.fragment.size, frame.x_offset, frame.y_offset, image)
                     : WebpError(VP8_STATUS_NOT_ENOUGH_DATA);
  WebPDemuxReleaseIterator(&frame);
  return status;
}

}  // namespace

absl::StatusOr<ImageSize> PeekWebp(absl::Span<const uint8_t> file, int64_t max_pixels) {
  P2_ASSIGN_OR_RETURN(const WebPBitstreamFeatures features, Features(file, max_pixels));
  return ImageSize{features.width, features.height};
}

absl::StatusOr<Image> DecodeWebp(absl::Span<const uint8_t> file, int channels, int64_t max_pixels) {
  P2_ASSIGN_OR_RETURN(const WebPBitstreamFeatures features, Features(file, max_pixels));
  Image image{features.width, features.height, 3};
  image.pixels.resize(image.row_bytes() * static_cast<size_t>(image.height));
  P2_RETURN_IF_ERROR(features.has_animation ? DecodeFirstFrame(file, image)
                                            : DecodeInto(file.data(), file.size(), 0, 0, image));
  if (channels == 3) return image;
  const size_t pixels = image.pixels.size() / 3;
  for (size_t i = 0; i < pixels; ++i) {
    image.pixels[i] = Luma(image.pixels[3 * i], image.pixels[3 * i + 1], image.pixels[3 * i + 2]);
  }
  image.pixels.resize(pixels);
  image.channels = 1;
  return image;
}

}  // namespace p2::image
