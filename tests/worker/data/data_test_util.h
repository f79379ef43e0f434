// Small datasets with known bytes.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/image/shard.h"
#include "gtest/gtest.h"

namespace p2::data {

// A dataset directory of its own, removed at the end. Byte j of record i is a function of i and j.
class TestDataset {
 public:
  TestDataset(uint64_t count, int resolution, int channels, uint64_t records_per_shard,
              uint32_t version = image::kShardVersion)
      : record_bytes_(static_cast<uint64_t>(channels) * resolution * resolution) {
    static std::atomic<int> next = 0;
    path_ = absl::StrCat(::testing::TempDir(), "/p2-data-", getpid(), "-", next++);
    std::filesystem::create_directories(path_);
    image::DatasetManifest manifest{"test", resolution, channels, count};
    manifest.version = version;
    image::Fingerprint fingerprint;
    const uint32_t side = static_cast<uint32_t>(resolution);
    for (uint64_t first = 0; first < count; first += records_per_shard) {
      auto writer = image::ShardWriter::Create(path_, manifest.shards.size(),
                                               {static_cast<uint32_t>(channels), side, side, 0, first, version});
      EXPECT_TRUE(writer.ok()) << writer.status();
      for (uint64_t i = first; i < std::min(count, first + records_per_shard); ++i) {
        EXPECT_TRUE((*writer)->Append(Record(i)).ok());
        fingerprint.Add(image::Fingerprint::OfRecord(Record(i)));
      }
      manifest.shards.push_back(*(*writer)->Finish());
    }
    manifest.fingerprint = fingerprint.Finish(resolution, channels);
    EXPECT_TRUE(image::SaveManifest(manifest, path_).ok());
  }
  ~TestDataset() { std::filesystem::remove_all(path_); }

  std::vector<uint8_t> Record(uint64_t i) const {
    std::vector<uint8_t> record(record_bytes_);
    for (uint64_t j = 0; j < record_bytes_; ++j) record[j] = static_cast<uint8_t>(i * 31 + j * 7 + i * j);
    return record;
  }
  const std::string& path() const { return path_; }
  std::string Shard(size_t index) const { return path_ + "/" + image::ShardFileName(index); }

 private:
  const uint64_t record_bytes_;
  std::string path_;
};

}  // namespace p2::data
