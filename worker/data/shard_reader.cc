#include "worker/data/shard_reader.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace p2::data {

absl::StatusOr<std::unique_ptr<ShardReader>> ShardReader::Open(const std::string& directory, const Options& options) {
  std::unique_ptr<ShardReader> reader(new ShardReader);
  P2_ASSIGN_OR_RETURN(reader->manifest_, image::LoadManifest(directory));
  const image::DatasetManifest& manifest = reader->manifest_;
  const uint32_t side = static_cast<uint32_t>(manifest.resolution);
  uint64_t first = 0;
  for (const image::ShardInfo& info : manifest.shards) {
    const std::string path = absl::StrCat(directory, "/", info.file);
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.ok())
      return errno == ENOENT ? absl::DataLossError(absl::StrCat(path, " is missing")) : FileError("open", path);
    struct stat stat;
    if (fstat(fd.get(), &stat) != 0) return FileError("stat", path);
    if (static_cast<uint64_t>(stat.st_size) != info.bytes) {
      return absl::DataLossError(absl::StrCat(path, " has ", stat.st_size, " bytes, the manifest says ", info.bytes,
                                              "; copy it again, or prepare the dataset again"));
    }
    std::array<uint8_t, image::kShardHeaderBytes> bytes;
    P2_RETURN_IF_ERROR(PReadAll(fd.get(), path, 0, absl::MakeSpan(bytes)));
    const absl::StatusOr<image::ShardHeader> header = image::DecodeShardHeader(bytes);
    if (!header.ok()) return absl::DataLossError(absl::StrCat(path, ": ", header.status().message()));
    if (*header !=
        image::ShardHeader{static_cast<uint32_t>(manifest.channels), side, side, info.count, first, manifest.version}) {
      return absl::DataLossError(
          absl::StrCat(path, " is not the shard that the manifest describes; prepare the dataset again"));
    }
    first += info.count;
    P2_ASSIGN_OR_RETURN(std::vector<uint32_t> checksums, image::ReadChecksums(fd.get(), path, *header));
    reader->shards_.push_back({path, std::move(fd), std::move(checksums)});
  }

  const uint64_t total = manifest.count * manifest.record_bytes();
  if (total <= options.resident_limit_bytes) {
    std::unique_ptr<uint8_t[]> records(new uint8_t[total]);
    uint64_t at = 0;
    for (size_t i = 0; i < reader->shards_.size(); ++i) {
      const uint64_t size = manifest.shards[i].count * manifest.record_bytes();
      P2_RETURN_IF_ERROR(reader->ReadChecked(reader->shards_[i], 0, absl::MakeSpan(records.get() + at, size)));
      at += size;
    }
    reader->resident_ = std::move(records);
    reader->resident_bytes_ = total;
  }
  return reader;
}

absl::Status ShardReader::ReadChecked(const Shard& shard, uint64_t first, absl::Span<uint8_t> out) const {
  const uint64_t size = record_bytes();
  P2_RETURN_IF_ERROR(PReadAll(shard.fd.get(), shard.path, image::kShardHeaderBytes + first * size, out));
  for (uint64_t i = 0; !shard.checksums.empty() && i < out.size() / size; ++i) {
    const absl::Status whole =
        image::CheckRecord(out.subspan(i * size, size), shard.checksums[first + i], shard.path, first + i);
    if (!whole.ok()) {
      return absl::DataLossError(absl::StrCat(whole.message(), "; `p2ctl dataset validate ",
                                              shard.path.substr(0, shard.path.rfind('/')),
                                              "` looks for more; copy the dataset again, or prepare it again"));
    }
  }
  return absl::OkStatus();
}

absl::Status ShardReader::Read(uint64_t index, absl::Span<uint8_t> out) const {
  const uint64_t size = record_bytes();
  if (index >= count()) return absl::OutOfRangeError(absl::StrCat("record ", index, " of a dataset of ", count()));
  if (out.size() != size)
    return absl::InvalidArgumentError(absl::StrCat("a record has ", size, " bytes, not ", out.size()));
  if (resident_ != nullptr) {
    std::memcpy(out.data(), resident_.get() + index * size, size);
    return absl::OkStatus();
  }
  const uint64_t per_shard = manifest_.shards[0].count;  // The same in all but the last.
  return ReadChecked(shards_[index / per_shard], index % per_shard, out);
}

}  // namespace p2::data
