// A shard's header, as it is and with a checksum that is right, so that the fields behind it are reached.
#include <algorithm>

#include "common/crc32c.h"
#include "common/image/shard.h"
#include "tests/fuzz/fuzz_input.h"

namespace {

void Decode(absl::Span<const uint8_t> bytes) {
  const auto header = p2::image::DecodeShardHeader(bytes);
  if (!header.ok()) return;
  p2::fuzz::Require(header->record_bytes() <= 3u * p2::image::kMaxResolution * p2::image::kMaxResolution,
                    "a record fits in memory");
  const auto again = p2::image::DecodeShardHeader(p2::image::EncodeShardHeader(*header));
  p2::fuzz::Require(again.ok() && *again == *header, "an accepted header is written and read back unchanged");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Decode(absl::MakeConstSpan(data, size));
  std::vector<uint8_t> mended(data, data + std::min(size, p2::image::kShardHeaderBytes));
  mended.resize(p2::image::kShardHeaderBytes);
  const uint32_t crc = p2::Crc32c(p2::fuzz::Text(mended.data(), 60));
  for (int i = 0; i < 4; ++i) mended[60 + i] = static_cast<uint8_t>(crc >> (8 * i));
  Decode(mended);
  return 0;
}
