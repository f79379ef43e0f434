// dataset.json.
#include "common/image/shard.h"
#include "tests/fuzz/fuzz_input.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto manifest = p2::image::ParseManifest(p2::fuzz::Text(data, size), "input");
  if (!manifest.ok()) return 0;
  uint64_t count = 0;
  for (const p2::image::ShardInfo& shard : manifest->shards) {
    p2::fuzz::Require(shard.file.find('/') == std::string::npos, "a shard lies in the dataset's directory");
    p2::fuzz::Require(shard.count <= shard.bytes / manifest->record_bytes(), "a shard has room for its records");
    count += shard.count;
  }
  p2::fuzz::Require(count == manifest->count && count > 0, "the shards hold what the manifest counts");
  return 0;
}
