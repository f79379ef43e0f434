#include "common/image/decode.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "common/image/codec.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

struct Format {
  absl::StatusOr<ImageSize> (*peek)(absl::Span<const uint8_t>, int64_t);
  absl::StatusOr<Image> (*decode)(absl::Span<const uint8_t>, int, int64_t);
};

std::optional<Format> FormatOf(absl::Span<const uint8_t> file) {
  const auto holds = [&](size_t at, absl::string_view magic) {
    return file.size() >= at + magic.size() &&
           std::equal(magic.begin(), magic.end(), file.begin() + static_cast<std::ptrdiff_t>(at),
                      [](char a, uint8_t b) { return static_cast<uint8_t>(a) == b; });
  };
  if (holds(0, "\xff\xd8\xff")) return Format{PeekJpeg, DecodeJpeg};
  if (holds(0, "\x89PNG\r\n\x1a\n")) return Format{PeekPng, DecodePng};
  if (holds(0, "RIFF") && holds(8, "WEBP")) return Format{PeekWebp, DecodeWebp};
  if (holds(0, "GIF87a") || holds(0, "GIF89a")) return Format{PeekGif, DecodeGif};
  return std::nullopt;
}

absl::StatusOr<Format> Recognize(absl::Span<const uint8_t> file, const DecodeLimits& limits) {
  if (file.empty()) return absl::InvalidArgumentError("the file is empty");
  if (file.size() > limits.max_file_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the file has ", file.size(), " bytes; at most ", limits.max_file_bytes, " are read"));
  }
  const std::optional<Format> format = FormatOf(file);
  if (!format) return absl::InvalidArgumentError("neither a JPEG nor a PNG, WebP or GIF, by its first bytes");
  return *format;
}

}  // namespace

absl::Status CheckSize(uint64_t width, uint64_t height, int64_t max_pixels) {
  if (width == 0 || height == 0) return absl::InvalidArgumentError(absl::StrCat(width, " x ", height, " pixels"));
  if (width > static_cast<uint64_t>(max_pixels) || height > static_cast<uint64_t>(max_pixels) / width) {
    return absl::InvalidArgumentError(
        absl::StrCat(width, " x ", height, " pixels; at most ", max_pixels, " in all are read"));
  }
  return absl::OkStatus();
}

bool IsImageStart(absl::Span<const uint8_t> start) { return FormatOf(start).has_value(); }

absl::StatusOr<ImageSize> PeekSize(absl::Span<const uint8_t> file, const DecodeLimits& limits) {
  P2_ASSIGN_OR_RETURN(const Format format, Recognize(file, limits));
  return format.peek(file, limits.max_pixels);
}

absl::StatusOr<Image> Decode(absl::Span<const uint8_t> file, int channels, const DecodeLimits& limits) {
  if (channels != 1 && channels != 3)
    return absl::InvalidArgumentError(absl::StrCat("channels is ", channels, ", not 1 or 3"));
  P2_ASSIGN_OR_RETURN(const Format format, Recognize(file, limits));
  return format.decode(file, channels, limits.max_pixels);
}

}  // namespace p2::image
