// Reads the records of a dataset directory (common/image/shard.h) by index.
//
// Every read is a pread into the caller's memory, never a mapping: a truncated or failing network file is an error that
// the trainer can report as class `data`, not a SIGBUS. A set that fits is read once and kept.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/file_util.h"
#include "common/image/shard.h"

namespace p2::data {

// Thread-safe.
class ShardReader {
 public:
  struct Options {
    // Sets of at most this many record bytes stay in memory.
    uint64_t resident_limit_bytes = uint64_t{1} << 30;
  };

  // Loads the manifest; opens every shard and compares header and size with it; reads the records if they stay
  // resident, each compared with its checksum. The digests are not computed (image::VerifyDataset does). NOT_FOUND if
  // `directory` is no dataset; DATA_LOSS naming the file if something is missing, damaged or cut short; UNAVAILABLE if
  // reading fails; FAILED_PRECONDITION if a newer p2 wrote it.
  static absl::StatusOr<std::unique_ptr<ShardReader>> Open(const std::string& directory, const Options& options);
  static absl::StatusOr<std::unique_ptr<ShardReader>> Open(const std::string& directory) {
    return Open(directory, Options());
  }

  const image::DatasetManifest& manifest() const { return manifest_; }
  uint64_t count() const { return manifest_.count; }
  // channels * resolution * resolution.
  uint64_t record_bytes() const { return manifest_.record_bytes(); }

  // Record `index` as (C, H, W) into `out`, which has exactly record_bytes(), compared with its checksum (a set of
  // shard version 1 has none). OUT_OF_RANGE if there is no such record; DATA_LOSS or UNAVAILABLE as above.
  absl::Status Read(uint64_t index, absl::Span<uint8_t> out) const;

  // All records in order if they are resident, else empty: (N, C, H, W).
  absl::Span<const uint8_t> resident() const { return absl::MakeConstSpan(resident_.get(), resident_bytes_); }

 private:
  struct Shard {
    std::string path;
    UniqueFd fd;
    std::vector<uint32_t> checksums;  // Of each record; empty in sets of version 1.
  };
  // The shard's records [first, first + out.size() / record_bytes()).
  absl::Status ReadChecked(const Shard& shard, uint64_t first, absl::Span<uint8_t> out) const;

  ShardReader() = default;

  // Constant after Open.
  image::DatasetManifest manifest_;
  std::vector<Shard> shards_;
  std::unique_ptr<uint8_t[]> resident_;
  uint64_t resident_bytes_ = 0;
};

}  // namespace p2::data
