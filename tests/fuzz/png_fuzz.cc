// As it is, and with every chunk's CRC-32 mended, so that mutated chunks reach what reads them.
#include "tests/fuzz/image_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  p2::fuzz::ReadImage(data, size, p2::image::PeekPng, p2::image::DecodePng);
  std::string mended(p2::fuzz::Text(data, size));
  const auto byte = [&mended](size_t at) { return static_cast<uint8_t>(mended[at]); };
  for (size_t at = 8; at + 12 <= mended.size();) {
    const size_t length = size_t{byte(at)} << 24 | byte(at + 1) << 16 | byte(at + 2) << 8 | byte(at + 3);
    if (length > mended.size() - at - 12) break;
    const uint32_t crc = p2::fuzz::Crc32(absl::string_view(mended).substr(at + 4, 4 + length));
    for (size_t i = 0; i < 4; ++i) mended[at + 8 + length + i] = static_cast<char>(crc >> (24 - 8 * i));
    at += 12 + length;
  }
  p2::fuzz::ReadImage(reinterpret_cast<const uint8_t*>(mended.data()), mended.size(), p2::image::PeekPng,
                      p2::image::DecodePng);
  return 0;
}
