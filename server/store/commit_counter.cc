#include "server/store/commit_counter.h"

#include <fcntl.h>
#include <unistd.h>

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/crc32c.h"
#include "common/failpoint.h"
#include "common/status_macros.h"
#include "server/store/file_io.h"

namespace p2::store {
namespace {

constexpr int64_t kSlotBytes = 512;
constexpr absl::string_view kMagic = "p2cc";
constexpr char kVersion = 1;

void AppendLittleEndian(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

uint64_t ReadLittleEndian(absl::string_view data, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(static_cast<unsigned char>(data[i])) << (8 * i);
  return value;
}

// {magic, version, count}; its CRC follows.
constexpr size_t kBodyBytes = 4 + 1 + 8;

std::string EncodeSlot(uint64_t count) {
  std::string slot(kMagic);
  slot.push_back(kVersion);
  AppendLittleEndian(slot, count, 8);
  AppendLittleEndian(slot, Crc32c(slot), 4);
  return slot;
}

std::optional<uint64_t> DecodeSlot(absl::string_view slot) {
  if (slot.size() < kBodyBytes + 4 || slot.substr(0, 4) != kMagic || slot[4] != kVersion) return std::nullopt;
  if (ReadLittleEndian(slot.substr(kBodyBytes), 4) != Crc32c(slot.substr(0, kBodyBytes))) return std::nullopt;
  return ReadLittleEndian(slot.substr(5), 8);
}

}  // namespace

CommitCounter::~CommitCounter() { close(fd_); }

absl::StatusOr<std::unique_ptr<CommitCounter>> CommitCounter::Open(const std::string& path) {
  P2_ASSIGN_OR_RETURN(File file, File::Open(path, O_RDWR));
  std::optional<uint64_t> count;
  for (int slot = 0; slot < 2; ++slot) {
    P2_ASSIGN_OR_RETURN(const std::string data, file.ReadAt(slot * kSlotBytes, kSlotBytes));
    const std::optional<uint64_t> value = DecodeSlot(data);
    if (value.has_value() && (!count.has_value() || *value > *count)) count = value;
  }
  if (!count.has_value()) {
    return absl::DataLossError(absl::StrCat(path, ": neither slot of the commit counter is whole; restore a backup"));
  }
  return std::unique_ptr<CommitCounter>(new CommitCounter(file.Release(), path, *count));
}

absl::StatusOr<std::unique_ptr<CommitCounter>> CommitCounter::Create(const std::string& path, uint64_t count) {
  P2_ASSIGN_OR_RETURN(File file, File::Open(path, O_RDWR | O_CREAT | O_TRUNC));
  P2_RETURN_IF_ERROR(file.Truncate(2 * kSlotBytes));
  std::unique_ptr<CommitCounter> counter(new CommitCounter(file.Release(), path, count));
  P2_RETURN_IF_ERROR(counter->Set(count));
  P2_RETURN_IF_ERROR(SyncPath(ParentDirectory(path)));
  return counter;
}

absl::Status CommitCounter::Set(uint64_t count) {
  const std::string slot = EncodeSlot(count);
  if (pwrite(fd_, slot.data(), slot.size(), static_cast<off_t>(count % 2) * kSlotBytes) !=
      static_cast<ssize_t>(slot.size())) {
    return ErrnoError("write", path_);
  }
  P2_RETURN_IF_ERROR(P2_FAILPOINT("commits.before_sync"));
  if (fdatasync(fd_) != 0) return ErrnoError("fdatasync", path_);
  count_ = count;
  return absl::OkStatus();
}

}  // namespace p2::store
