#include "common/image/shard.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/crc32c.h"
#include "common/file_util.h"
#include "common/sha256.h"
#include "common/status_macros.h"

namespace p2::image {
namespace {

constexpr char kMagic[] = "P2SHARD\n";

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
  PutLittleEndian(kShardVersion, 4, &out[8]);
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
  const uint64_t version = GetLittleEndian(&bytes[8], 4);
  if (version != kShardVersion || GetLittleEndian(&bytes[12], 4) != kShardHeaderBytes) {
    return absl::DataLossError(absl::StrCat("shard version ", version, "; this p2 reads ", kShardVersion));
  }
  ShardHeader header;
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

Fingerprint::Digest Fingerprint::OfRecord(absl::Span<const uint8_t> record) {
  Sha256 sha;
  sha.Update(record);
  return sha.Finish();
}

std::string Fingerprint::Finish(int resolution, int channels) const {
  uint8_t prefix[32];
  const uint64_t fields[] = {kShardVersion, static_cast<uint64_t>(resolution), static_cast<uint64_t>(channels),
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

absl::Status ShardWriter::Append(absl::Span<const uint8_t> record) {
  if (record.size() != header_.record_bytes()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a record of ", record.size(), " bytes; ", header_.record_bytes(), " wanted"));
  }
  P2_RETURN_IF_ERROR(WriteAll(fd_, TempPath(), record));
  ++header_.count;
  return absl::OkStatus();
}

absl::StatusOr<ShardInfo> ShardWriter::Finish() {
  const std::string temp = TempPath(), path = absl::StrCat(directory_, "/", file_);
  const auto header = EncodeShardHeader(header_);
  if (lseek(fd_, 0, SEEK_SET) != 0) return FileError("seek in", temp);
  P2_RETURN_IF_ERROR(WriteAll(fd_, temp, header));
  if (fsync(fd_) != 0) return FileError("fsync", temp);

  ShardInfo info{file_, header_.count, kShardHeaderBytes + header_.count * header_.record_bytes()};
  Sha256 sha;
  std::vector<uint8_t> block(1 << 20);
  for (uint64_t at = 0; at < info.bytes; at += block.size()) {
    const absl::Span<uint8_t> piece = absl::MakeSpan(block).first(std::min<uint64_t>(block.size(), info.bytes - at));
    P2_RETURN_IF_ERROR(PReadAll(fd_, temp, at, piece));
    sha.Update(piece);
  }
  info.sha256 = Hex(sha.Finish());

  if (std::rename(temp.c_str(), path.c_str()) != 0) return FileError("rename to", path);
  finished_ = true;
  P2_RETURN_IF_ERROR(SyncDirectory(directory_));
  return info;
}

}  // namespace p2::image
