#include "bench/synthetic_dataset.h"

#include <memory>
#include <vector>

#include "common/image/shard.h"
#include "common/status_macros.h"

namespace p2::bench {

absl::Status WriteSyntheticDataset(const std::string& directory, int size, int channels, uint64_t count) {
  const image::ShardHeader header{.channels = static_cast<uint32_t>(channels),
                                  .height = static_cast<uint32_t>(size),
                                  .width = static_cast<uint32_t>(size)};
  P2_ASSIGN_OR_RETURN(const std::unique_ptr<image::ShardWriter> writer,
                      image::ShardWriter::Create(directory, 0, header));
  image::Fingerprint fingerprint;
  std::vector<uint8_t> record(header.record_bytes());
  uint32_t random = 1;
  for (uint64_t i = 0; i < count; ++i) {
    for (uint8_t& pixel : record) pixel = static_cast<uint8_t>((random = random * 1664525 + 1013904223) >> 24);
    P2_RETURN_IF_ERROR(writer->Append(record));
    fingerprint.Add(image::Fingerprint::OfRecord(record));
  }
  image::DatasetManifest manifest;
  manifest.name = "synthetic";
  manifest.resolution = size;
  manifest.channels = channels;
  manifest.count = count;
  manifest.fingerprint = fingerprint.Finish(size, channels);
  P2_ASSIGN_OR_RETURN(const image::ShardInfo shard, writer->Finish());
  manifest.shards = {shard};
  manifest.created_by = "train_bench";
  return image::SaveManifest(manifest, directory);
}

}  // namespace p2::bench
