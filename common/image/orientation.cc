// EXIF orientation: where each format keeps it, and turning the pixels.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "common/image/decode.h"

namespace p2::image {
namespace {

uint64_t Number(absl::string_view bytes, size_t at, size_t size, bool big_endian) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) {
    value = value << 8 | static_cast<uint8_t>(bytes[at + (big_endian ? i : size - 1 - i)]);
  }
  return value;
}

// Tag 0x0112 of the first directory; 0 if it has none.
int OfTiff(absl::string_view tiff) {
  while (absl::StartsWith(tiff, absl::string_view("Exif\0\0", 6))) tiff.remove_prefix(6);
  if (tiff.size() < 8) return 0;
  const bool big = absl::StartsWith(tiff, "MM");
  if (!big && !absl::StartsWith(tiff, "II")) return 0;
  if (Number(tiff, 2, 2, big) != 42) return 0;
  const uint64_t directory = Number(tiff, 4, 4, big);
  if (directory + 2 > tiff.size()) return 0;
  const uint64_t entries = Number(tiff, directory, 2, big);
  int found = 0;
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t at = directory + 2 + 12 * i;
    if (at + 12 > tiff.size()) break;
    if (Number(tiff, at, 2, big) != 0x0112 || Number(tiff, at + 4, 4, big) != 1) continue;
    const uint64_t type = Number(tiff, at + 2, 2, big);  // BYTE, SHORT, LONG.
    const size_t size = type == 1 ? 1 : type == 3 ? 2 : type == 4 ? 4 : 0;
    if (size != 0) found = static_cast<int>(std::min<uint64_t>(Number(tiff, at + 8, size, big), 9));
  }
  return found;
}

int OfXmp(absl::string_view xmp) {
  for (size_t at = 0; (at = xmp.find("tiff:Orientation", at)) != absl::string_view::npos;) {
    at += 16;
    absl::string_view rest = xmp.substr(at);
    size_t skip = absl::StartsWith(rest, "=\"") ? 2 : absl::StartsWith(rest, ">") ? 1 : 0;
    if (skip != 0 && rest.size() > skip && rest[skip] >= '0' && rest[skip] <= '9') return rest[skip] - '0';
  }
  return 0;
}

struct Metadata {
  absl::string_view exif;
  absl::string_view xmp;
};

Metadata OfJpeg(absl::string_view file) {
  constexpr absl::string_view kExif("Exif\0\0", 6), kXmp("http://ns.adobe.com/xap/1.0/\0", 29);
  Metadata found;
  for (size_t at = 2; at + 4 <= file.size() && file[at] == '\xff';) {
    const uint8_t marker = static_cast<uint8_t>(file[at + 1]);
    if (marker == 0xff) {  // Filling.
      ++at;
      continue;
    }
    if (marker == 0xda || marker == 0xd9) break;
    const size_t length = Number(file, at + 2, 2, true);
    if (length < 2 || length > file.size() - at - 2) break;
    const absl::string_view segment = file.substr(at + 4, length - 2);
    if (marker == 0xe1 && found.exif.empty() && absl::StartsWith(segment, kExif)) found.exif = segment;
    if (marker == 0xe1 && absl::StartsWith(segment, kXmp)) found.xmp = segment.substr(kXmp.size());
    at += 2 + length;
  }
  return found;
}

Metadata OfPng(absl::string_view file) {
  Metadata found;
  for (size_t at = 8; at + 12 <= file.size();) {
    const size_t length = Number(file, at, 4, true);
    if (length > file.size() - at - 12) break;
    const absl::string_view kind = file.substr(at + 4, 4), data = file.substr(at + 8, length);
    if (kind == "eXIf") found.exif = data;
    // Keyword, compressed or not, method; only the plain form is looked at.
    if (kind == "iTXt" && absl::StartsWith(data, absl::string_view("XML:com.adobe.xmp\0\0", 19))) found.xmp = data;
    at += 12 + length;
  }
  return found;
}

Metadata OfWebp(absl::string_view file) {
  Metadata found;
  for (size_t at = 12; at + 8 <= file.size();) {
    const size_t length = Number(file, at + 4, 4, false);
    if (length > file.size() - at - 8) break;
    const absl::string_view kind = file.substr(at, 4), data = file.substr(at + 8, length);
    if (kind == "EXIF" && found.exif.empty()) found.exif = data;
    if (kind == "XMP " && found.xmp.empty()) found.xmp = data;
    at += 8 + length + length % 2;
  }
  return found;
}

}  // namespace

int ExifOrientation(absl::Span<const uint8_t> bytes) {
  const absl::string_view file(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  Metadata found;
  if (absl::StartsWith(file, "\xff\xd8")) found = OfJpeg(file);
  if (absl::StartsWith(file, "\x89PNG")) found = OfPng(file);
  if (absl::StartsWith(file, "RIFF")) found = OfWebp(file);
  int orientation = OfTiff(found.exif);
  if (orientation == 0) orientation = OfXmp(found.xmp);
  return orientation >= 1 && orientation <= 8 ? orientation : 1;
}

Image Upright(Image image, int orientation) {
  if (orientation < 2 || orientation > 8) return image;
  const bool swapped = orientation >= 5;
  const bool mirror_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool mirror_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image out{swapped ? image.height : image.width, swapped ? image.width : image.height, image.channels};
  out.pixels.resize(image.pixels.size());
  const size_t channels = static_cast<size_t>(image.channels);
  uint8_t* to = out.pixels.data();
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x, to += channels) {
      int from_x = swapped ? y : x, from_y = swapped ? x : y;
      if (mirror_x) from_x = image.width - 1 - from_x;
      if (mirror_y) from_y = image.height - 1 - from_y;
      std::memcpy(
          to, &image.pixels[image.row_bytes() * static_cast<size_t>(from_y) + channels * static_cast<size_t>(from_x)],
          channels);
    }
  }
  return out;
}

}  // namespace p2::image
