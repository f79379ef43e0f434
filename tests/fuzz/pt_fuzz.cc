// The .pt reader on whole files: the zip container, and whatever pickle it holds.
#include "tests/fuzz/fuzz_input.h"
#include "worker/checkpoint/pt_archive.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  p2::checkpoint::ReadPtBytes(p2::fuzz::Text(data, size));
  return 0;
}
