#include "common/image/shard.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <future>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/crc32c.h"
#include "common/file_util.h"
#include "common/sha256.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

constexpr char kMagic[] = "P2SHARD\n";
constexpr uint64_t kChecksumBytes = 4;
constexpr int64_t kFlushBytes = int64_t{16} << 20;
constexpr uint64_t kFingerprintVersion = 1;  // Equal images keep their fingerprint whatever the shards' version.

void PutLittleEndian(uint64_t value, size_t size, uint8_t* out) {
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<uint8_t>(value >> (8 * i));
}

uint64_t GetLittleEndian(const uint8_t* in, size_t size) {
  uint64_t value = 0;
  for (size_t i = size; i-- > 0;) value = value << 8 | in[i];
  return value;
}

uint32_t Crc32cOf(absl::Span<const uint8_t> bytes) {
  return Crc32c(absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

}  // namespace

std::array<uint8_t, kShardHeaderBytes> EncodeShardHeader(const ShardHeader& header) {
  std::array<uint8_t, kShardHeaderBytes> out = {};
  std::memcpy(out.data(), kMagic, 8);
  PutLittleEndian(header.version, 4, &out[8]);
  PutLittleEndian(kShardHeaderBytes, 4, &out[12]);
  PutLittleEndian(header.channels, 4, &out[16]);
  PutLittleEndian(header.height, 4, &out[20]);
  PutLittleEndian(header.width, 4, &out[24]);
  PutLittleEndian(header.count, 8, &out[32]);
  PutLittleEndian(header.record_bytes(), 8, &out[40]);
  PutLittleEndian(header.first, 8, &out[48]);
  PutLittleEndian(Crc32cOf(absl::MakeConstSpan(out.data(), 60)), 4, &out[60]);
  return out;
}

absl::StatusOr<ShardHeader> DecodeShardHeader(absl::Span<const uint8_t> bytes) {
  if (bytes.size() != kShardHeaderBytes || std::memcmp(bytes.data(), kMagic, 8) != 0) {
    return absl::DataLossError("not a shard: its first bytes are wrong");
  }
  if (GetLittleEndian(&bytes[60], 4) != Crc32cOf(bytes.first(60)))
    return absl::DataLossError("the header's checksum is wrong");
  ShardHeader header;
  header.version = static_cast<uint32_t>(GetLittleEndian(&bytes[8], 4));
  if (header.version < 1 || header.version > kShardVersion || GetLittleEndian(&bytes[12], 4) != kShardHeaderBytes) {
    return absl::DataLossError(absl::StrCat("shard version ", header.version, "; this p2 reads 1 to ", kShardVersion));
  }
  header.channels = static_cast<uint32_t>(GetLittleEndian(&bytes[16], 4));
  header.height = static_cast<uint32_t>(GetLittleEndian(&bytes[20], 4));
  header.width = static_cast<uint32_t>(GetLittleEndian(&bytes[24], 4));
  header.count = GetLittleEndian(&bytes[32], 8);
  header.first = GetLittleEndian(&bytes[48], 8);
  constexpr uint32_t kMaxSide = kMaxResolution;
  if ((header.channels != 1 && header.channels != 3) || header.height - 1 >= kMaxSide || header.width - 1 >= kMaxSide ||
      header.record_bytes() != GetLittleEndian(&bytes[40], 8)) {
    return absl::DataLossError(absl::StrCat("records of ", header.channels, " x ", header.height, " x ", header.width,
                                            " in ", GetLittleEndian(&bytes[40], 8), " bytes are not possible"));
  }
  return header;
}

uint64_t ShardBytes(uint32_t version, uint64_t count, uint64_t record_bytes) {
  return kShardHeaderBytes + count * record_bytes + (version == 1 ? 0 : kChecksumBytes * (count + 1));
}

uint64_t MaxRecords(uint64_t record_bytes) {
  return (INT64_MAX - kShardHeaderBytes - kChecksumBytes) / (record_bytes + kChecksumBytes);
}

absl::StatusOr<std::vector<uint32_t>> ReadChecksums(int fd, const std::string& path, const ShardHeader& header) {
  std::vector<uint32_t> checksums;
  if (header.version == 1) return checksums;
  if (header.count > MaxRecords(header.record_bytes())) {
    return absl::DataLossError(absl::StrCat(path, ": ", header.count, " records are not possible"));
  }
  const uint64_t at = kShardHeaderBytes + header.count * header.record_bytes();
  struct stat info;
  if (fstat(fd, &info) != 0) return FileError("stat", path);
  if (static_cast<uint64_t>(info.st_size) < at + kChecksumBytes * (header.count + 1)) {  // Before memory is taken.
    return absl::DataLossError(absl::StrCat(path, " has ", info.st_size, " bytes, too few for ", header.count,
                                            " records of ", header.record_bytes(), " and their checksums"));
  }
  std::vector<uint8_t> bytes(kChecksumBytes * (header.count + 1));
  P2_RETURN_IF_ERROR(PReadAll(fd, path, at, absl::MakeSpan(bytes)));
  const absl::Span<const uint8_t> all(bytes);
  if (Crc32cOf(all.first(bytes.size() - kChecksumBytes)) !=
      GetLittleEndian(&bytes[bytes.size() - kChecksumBytes], kChecksumBytes)) {
    return absl::DataLossError(absl::StrCat(path, ": the checksums of its records (from byte ", at, ") are damaged"));
  }
  checksums.resize(header.count);
  for (size_t i = 0; i < checksums.size(); ++i)
    checksums[i] = static_cast<uint32_t>(GetLittleEndian(&bytes[kChecksumBytes * i], kChecksumBytes));
  return checksums;
}

absl::Status CheckRecord(absl::Span<const uint8_t> record, uint32_t crc, const std::string& path, uint64_t index) {
  const uint32_t found = Crc32cOf(record);
  if (found == crc) return absl::OkStatus();
  const uint64_t at = kShardHeaderBytes + index * record.size();
  return absl::DataLossError(absl::StrFormat(
      "%s: record %d (bytes %d to %d) is damaged: its CRC-32C is %08x, it was %08x when the dataset was prepared", path,
      index, at, at + record.size() - 1, found, crc));
}

Fingerprint::Digest Fingerprint::OfRecord(absl::Span<const uint8_t> record) {
  Sha256 sha;
  sha.Update(record);
  return sha.Finish();
}

std::string Fingerprint::Finish(int resolution, int channels) const {
  uint8_t prefix[32];
  const uint64_t fields[] = {kFingerprintVersion, static_cast<uint64_t>(resolution), static_cast<uint64_t>(channels),
                             count()};
  for (size_t i = 0; i < 4; ++i) PutLittleEndian(fields[i], 8, prefix + 8 * i);
  Sha256 sha;
  sha.Update(prefix);
  sha.Update(digests_);
  return Hex(sha.Finish());
}

std::string ShardFileName(size_t index) { return absl::StrFormat("shard-%05d.p2s", index); }

ShardWriter::ShardWriter(std::string directory, std::string file, ShardHeader header, int fd)
    : directory_(std::move(directory)), file_(std::move(file)), header_(header), fd_(fd) {}

std::string ShardWriter::TempPath() const { return absl::StrCat(directory_, "/", file_, ".tmp"); }

absl::StatusOr<std::unique_ptr<ShardWriter>> ShardWriter::Create(const std::string& directory, size_t index,
                                                                 ShardHeader header) {
  header.count = 0;
  const std::string file = ShardFileName(index);
  const std::string temp = absl::StrCat(directory, "/", file, ".tmp");
  const int fd = open(temp.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return FileError("create", temp);
  std::unique_ptr<ShardWriter> writer(new ShardWriter(directory, file, header, fd));
  P2_RETURN_IF_ERROR(WriteAll(fd, temp, std::array<uint8_t, kShardHeaderBytes>{}));
  return writer;
}

ShardWriter::~ShardWriter() {
  close(fd_);
  if (!finished_) unlink(TempPath().c_str());
}

void ShardWriter::AppendChecksum(uint32_t crc) {
  checksums_.resize(checksums_.size() + kChecksumBytes);
  PutLittleEndian(crc, kChecksumBytes, checksums_.data() + checksums_.size() - kChecksumBytes);
}

absl::Status ShardWriter::Append(absl::Span<const uint8_t> record) {
  if (record.size() != header_.record_bytes()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a record of ", record.size(), " bytes; ", header_.record_bytes(), " wanted"));
  }
  P2_RETURN_IF_ERROR(WriteAll(fd_, TempPath(), record));
  if (header_.version > 1) AppendChecksum(Crc32cOf(record));
  ++header_.count;
  // So that little is left for the fsync. Only a hint: errors come with that.
  const off_t written = static_cast<off_t>(kShardHeaderBytes + header_.count * header_.record_bytes());
  if (written - flushed_ >= kFlushBytes) {
    (void)sync_file_range(fd_, flushed_, written - flushed_, SYNC_FILE_RANGE_WRITE);
    flushed_ = written;
  }
  return absl::OkStatus();
}

absl::StatusOr<ShardInfo> ShardWriter::Finish() {
  const std::string temp = TempPath(), path = absl::StrCat(directory_, "/", file_);
  if (header_.version > 1) {
    AppendChecksum(Crc32cOf(checksums_));
    P2_RETURN_IF_ERROR(WriteAll(fd_, temp, checksums_));
  }
  const auto header = EncodeShardHeader(header_);
  if (lseek(fd_, 0, SEEK_SET) != 0) return FileError("seek in", temp);
  P2_RETURN_IF_ERROR(WriteAll(fd_, temp, header));
  // Both wait: one for the disk, the other for the CPU.
  std::future<int> synced = std::async(std::launch::async, [this] { return fsync(fd_) == 0 ? 0 : errno; });

  ShardInfo info{file_, header_.count, ShardBytes(header_.version, header_.count, header_.record_bytes())};
  Sha256 sha;
  std::vector<uint8_t> block(1 << 20);
  for (uint64_t at = 0; at < info.bytes; at += block.size()) {
    const absl::Span<uint8_t> piece = absl::MakeSpan(block).first(std::min<uint64_t>(block.size(), info.bytes - at));
    P2_RETURN_IF_ERROR(PReadAll(fd_, temp, at, piece));
    sha.Update(piece);
  }
  info.sha256 = Hex(sha.Finish());
  errno = synced.get();
  if (errno != 0) return FileError("fsync", temp);

  if (std::rename(temp.c_str(), path.c_str()) != 0) return FileError("rename to", path);
  finished_ = true;
  P2_RETURN_IF_ERROR(SyncDirectory(directory_));
  return info;
}

}  // namespace p2::image
