// The dataset directory: what `p2ctl dataset prepare` writes and training reads.
//
//   NAME/
//     dataset.json       the manifest, written last: a directory without it is not a dataset
//     shard-00000.p2s    fixed-size records in order
//     shard-00001.p2s    ...
//
// Shard (little endian): a header of 64 bytes, `count` records without gaps, then their checksums.
//   0  char[8]  "P2SHARD\n"         32  u64  count: records in this shard
//   8  u32      version, 2          40  u64  record_bytes = channels * height * width
//   12 u32      header bytes, 64    48  u64  first: index in the dataset of record 0
//   16 u32      channels, 1 or 3    56  u32  0
//   20 u32      height              60  u32  CRC-32C of bytes 0..59
//   24 u32      width
//   28 u32      0
// Record: one image, uint8, (C, H, W). Every shard but the last holds the same number of records.
// Checksums: u32 CRC-32C of each record in order, then u32 CRC-32C of those. Training compares each record that it
// reads. Shards of version 1 have none.
//
// Manifest (JSON, UTF-8):
//   {"format": "p2-dataset", "version": 2, "name", "resolution", "channels", "count", "fingerprint",
//    "shards": [{"file", "count", "bytes", "sha256"}], "bad_count", "bad_images": [{"path", "reason"}], "created_by"}
// The version is that of its shards. `sha256` is of the whole file (what sha256sum prints). `bad_images` lists the
// first 10,000 that could not be read.
//
// Fingerprint: SHA-256, in hex, of u64 1, resolution, channels, count (little endian), then the SHA-256 of each
// record in order. It depends on pixels and their order only: not on names, paths, or how records are cut into shards.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace p2::image {

inline constexpr uint32_t kShardVersion = 2;  // Written; 1 is read too.
inline constexpr size_t kShardHeaderBytes = 64;
inline constexpr size_t kMaxBadImagesListed = 10'000;
inline constexpr size_t kMaxShards = 100'000;
inline constexpr int kMaxResolution = 4096;
inline constexpr char kManifestFile[] = "dataset.json";

struct ShardHeader {
  uint32_t channels = 0;
  uint32_t height = 0;
  uint32_t width = 0;
  uint64_t count = 0;
  uint64_t first = 0;
  uint32_t version = kShardVersion;

  uint64_t record_bytes() const { return uint64_t{channels} * height * width; }
  friend bool operator==(const ShardHeader&, const ShardHeader&) = default;
};

std::array<uint8_t, kShardHeaderBytes> EncodeShardHeader(const ShardHeader& header);
// DATA_LOSS naming the field that is wrong. `bytes` must be kShardHeaderBytes long.
absl::StatusOr<ShardHeader> DecodeShardHeader(absl::Span<const uint8_t> bytes);

// Bytes of a whole shard file. REQUIRES: count <= MaxRecords(record_bytes).
uint64_t ShardBytes(uint32_t version, uint64_t count, uint64_t record_bytes);
// How many records a file, and a dataset, can hold: their bytes stay within 63 bits.
uint64_t MaxRecords(uint64_t record_bytes);

// The CRC-32C of each record, from the end of a shard; empty for version 1. `path` is for messages. DATA_LOSS if the
// file ends before, or the checksums themselves are damaged; UNAVAILABLE if reading fails.
absl::StatusOr<std::vector<uint32_t>> ReadChecksums(int fd, const std::string& path, const ShardHeader& header);

// DATA_LOSS naming `path`, the record of the shard and its bytes in the file if `record` has another CRC-32C.
absl::Status CheckRecord(absl::Span<const uint8_t> record, uint32_t crc, const std::string& path, uint64_t index);

struct ShardInfo {
  std::string file;  // Name inside the directory: `shard-NNNNN.p2s`.
  uint64_t count = 0;
  uint64_t bytes = 0;
  std::string sha256;  // 64 lower-case hex digits.

  friend bool operator==(const ShardInfo&, const ShardInfo&) = default;
};

struct BadImage {
  std::string path;  // Relative to the input.
  std::string reason;

  friend bool operator==(const BadImage&, const BadImage&) = default;
};

struct DatasetManifest {
  std::string name;
  int resolution = 0;
  int channels = 0;
  uint64_t count = 0;
  std::string fingerprint;
  std::vector<ShardInfo> shards;
  uint64_t bad_count = 0;
  std::vector<BadImage> bad_images;
  std::string created_by;
  uint32_t version = kShardVersion;

  uint64_t record_bytes() const { return static_cast<uint64_t>(channels) * resolution * resolution; }
  friend bool operator==(const DatasetManifest&, const DatasetManifest&) = default;
};

// NOT_FOUND if `directory` holds no dataset.json; DATA_LOSS naming the field if it is damaged or contradicts itself;
// FAILED_PRECONDITION if a newer p2 wrote it; UNAVAILABLE if reading fails. Does not open the shards.
absl::StatusOr<DatasetManifest> LoadManifest(const std::string& directory);

// The same of the file's text; messages call it `path`.
absl::StatusOr<DatasetManifest> ParseManifest(absl::string_view text, const std::string& path);

// Writes dataset.json beside itself, fsyncs, renames.
absl::Status SaveManifest(const DatasetManifest& manifest, const std::string& directory);

// Collects the fingerprint's digests: 32 bytes of memory a record. Confined to one thread.
class Fingerprint {
 public:
  using Digest = std::array<uint8_t, 32>;
  static Digest OfRecord(absl::Span<const uint8_t> record);

  void Add(const Digest& record) { digests_.insert(digests_.end(), record.begin(), record.end()); }
  uint64_t count() const { return digests_.size() / sizeof(Digest); }
  // Hex.
  std::string Finish(int resolution, int channels) const;

 private:
  std::vector<uint8_t> digests_;
};

// `shard-NNNNN.p2s`.
std::string ShardFileName(size_t index);

// Writes one shard to a temporary file beside it; Finish adds the header, fsyncs and renames. A writer that is
// destroyed before Finish leaves nothing. Confined to one thread.
class ShardWriter {
 public:
  // `header.count` is ignored: it counts the records itself. `header.version`: 1 or 2.
  static absl::StatusOr<std::unique_ptr<ShardWriter>> Create(const std::string& directory, size_t index,
                                                             ShardHeader header);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  // `record` has exactly record_bytes(). RESOURCE_EXHAUSTED if the disk is full.
  absl::Status Append(absl::Span<const uint8_t> record);
  // Reads the file back for its digest, so that what is promised is what lies there.
  absl::StatusOr<ShardInfo> Finish();

  uint64_t count() const { return header_.count; }

 private:
  ShardWriter(std::string directory, std::string file, ShardHeader header, int fd);
  std::string TempPath() const;
  void AppendChecksum(uint32_t crc);

  const std::string directory_;
  const std::string file_;
  ShardHeader header_;
  std::vector<uint8_t> checksums_;  // As they will lie there.
  int fd_;
  int64_t flushed_ = 0;  // Bytes that are on their way to the disk.
  bool finished_ = false;
};

}  // namespace p2::image
