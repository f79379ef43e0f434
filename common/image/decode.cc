#include "common/image/decode.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "common/image/codec.h"

namespace p2::image {
namespace {

enum class Format { kJpeg, kPng };

absl::StatusOr<Format> Recognize(absl::Span<const uint8_t> file) {
  constexpr uint8_t kJpegStart[] = {0xff, 0xd8, 0xff};
  constexpr uint8_t kPngStart[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  const auto starts_with = [&](const auto& magic) {
    return file.size() >= std::size(magic) && std::equal(std::begin(magic), std::end(magic), file.begin());
  };
  if (file.empty()) return absl::InvalidArgumentError("the file is empty");
  if (file.size() > kMaxFileBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the file has ", file.size(), " bytes; at most ", kMaxFileBytes, " are read"));
  }
  if (starts_with(kJpegStart)) return Format::kJpeg;
  if (starts_with(kPngStart)) return Format::kPng;
  return absl::InvalidArgumentError("neither a JPEG nor a PNG, by its first bytes");
}

}  // namespace

absl::Status CheckSize(uint64_t width, uint64_t height) {
  if (width == 0 || height == 0 || width > static_cast<uint64_t>(kMaxPixels) || height > kMaxPixels / width) {
    return absl::InvalidArgumentError(
        absl::StrCat(width, " x ", height, " pixels; 1 to ", kMaxPixels / 1'000'000, " million are read"));
  }
  return absl::OkStatus();
}

absl::StatusOr<ImageSize> PeekSize(absl::Span<const uint8_t> file) {
  absl::StatusOr<Format> format = Recognize(file);
  if (!format.ok()) return format.status();
  return *format == Format::kJpeg ? PeekJpeg(file) : PeekPng(file);
}

absl::StatusOr<Image> Decode(absl::Span<const uint8_t> file, int channels) {
  if (channels != 1 && channels != 3)
    return absl::InvalidArgumentError(absl::StrCat("channels is ", channels, ", not 1 or 3"));
  absl::StatusOr<Format> format = Recognize(file);
  if (!format.ok()) return format.status();
  return *format == Format::kJpeg ? DecodeJpeg(file, channels) : DecodePng(file, channels);
}

}  // namespace p2::image
