// The index of a ZIP, a tar (plain or compressed) or an LMDB, told apart by their first bytes, and each entry's bytes.
#include "common/image/image_source.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static p2::fuzz::MemoryFile file;
  constexpr uint64_t kMaxFileBytes = 1 << 16;
  constexpr size_t kMaxRead = 32;
  const auto source =
      p2::image::ImageSource::Open(file.Fill(data, size), {.resolution = 32, .max_file_bytes = kMaxFileBytes});
  if (!source.ok()) return 0;
  const auto reader = (*source)->NewReader();
  if (!reader.ok()) return 0;
  for (size_t i = 0; i < (*source)->names().size() && i < kMaxRead; ++i) {
    const auto bytes = (*reader)->Read(i);
    p2::fuzz::Require(!bytes.ok() || bytes->size() <= kMaxFileBytes, "the limit of bytes holds");
  }
  return 0;
}
