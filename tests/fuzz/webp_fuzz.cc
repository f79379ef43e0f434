#include "tests/fuzz/image_fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  p2::fuzz::ReadImage(data, size, p2::image::PeekWebp, p2::image::DecodeWebp);
  return 0;
}
