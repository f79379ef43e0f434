#include "tests/fuzz/image_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  p2::fuzz::ReadImage(data, size, p2::image::PeekJpeg, p2::image::DecodeJpeg);
  return 0;
}
