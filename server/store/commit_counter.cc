#include "server/store/commit_counter.h"

#include <fcntl.h>

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
constexpr char kVersion = 2, kVersionWithoutMark = 1;

void AppendLittleEndian(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

uint64_t ReadLittleEndian(absl::string_view data, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(static_cast<unsigned char>(data[i])) << (8 * i);
  return value;
}

struct Slot {
  uint64_t count = 0;
  ManifestMark mark;
};

// {magic, version, count} and, from version 2 on, the mark; their CRC follows.
constexpr size_t kBodyBytes = 4 + 1 + 8;
constexpr size_t kMarkBytes = 8 + 8 + 4;

std::string EncodeSlot(const Slot& from) {
  std::string slot(kMagic);
  slot.push_back(kVersion);
  AppendLittleEndian(slot, from.count, 8);
  AppendLittleEndian(slot, from.mark.number, 8);
  AppendLittleEndian(slot, from.mark.bytes, 8);
  AppendLittleEndian(slot, from.mark.crc, 4);
  AppendLittleEndian(slot, Crc32c(slot), 4);
  return slot;
}

std::optional<Slot> DecodeSlot(absl::string_view slot) {
  if (slot.size() < kBodyBytes || slot.substr(0, 4) != kMagic) return std::nullopt;
  const char version = slot[4];
  if (version != kVersion && version != kVersionWithoutMark) return std::nullopt;
  const size_t body = version == kVersion ? kBodyBytes + kMarkBytes : kBodyBytes;
  if (slot.size() < body + 4 || ReadLittleEndian(slot.substr(body), 4) != Crc32c(slot.substr(0, body)))
    return std::nullopt;
  Slot decoded{ReadLittleEndian(slot.substr(5), 8), {}};
  if (version == kVersion) {
    decoded.mark = {ReadLittleEndian(slot.substr(kBodyBytes), 8), ReadLittleEndian(slot.substr(kBodyBytes + 8), 8),
                    static_cast<uint32_t>(ReadLittleEndian(slot.substr(kBodyBytes + 16), 4))};
  }
  return decoded;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CommitCounter>> CommitCounter::Open(const std::string& path) {
  P2_ASSIGN_OR_RETURN(File file, File::Open(path, O_RDWR));
  std::optional<Slot> newest;
  for (int slot = 0; slot < 2; ++slot) {
    P2_ASSIGN_OR_RETURN(const std::string data, file.ReadAt(slot * kSlotBytes, kSlotBytes));
    const std::optional<Slot> found = DecodeSlot(data);
    if (found.has_value() && (!newest.has_value() || found->count > newest->count)) newest = found;
  }
  if (!newest.has_value()) {
    return absl::DataLossError(absl::StrCat(path, ": neither slot of the commit counter is whole; restore a backup"));
  }
  return std::unique_ptr<CommitCounter>(new CommitCounter(std::move(file), newest->count, newest->mark));
}

absl::StatusOr<std::unique_ptr<CommitCounter>> CommitCounter::Create(const std::string& path, uint64_t count) {
  P2_ASSIGN_OR_RETURN(File file, File::Open(path, O_RDWR | O_CREAT | O_TRUNC));
  P2_RETURN_IF_ERROR(file.Truncate(2 * kSlotBytes));
  std::unique_ptr<CommitCounter> counter(new CommitCounter(std::move(file), count, {}));
  P2_RETURN_IF_ERROR(counter->Set(count));
  P2_RETURN_IF_ERROR(SyncPath(ParentDirectory(path)));
  return counter;
}

absl::Status CommitCounter::Set(uint64_t count, const ManifestMark& mark) {
  const std::string slot = EncodeSlot({count, mark});
  P2_RETURN_IF_ERROR(file_.WriteAt(static_cast<int64_t>(count % 2) * kSlotBytes, slot));
  P2_RETURN_IF_ERROR(P2_FAILPOINT("commits.before_sync"));
  P2_RETURN_IF_ERROR(file_.Sync());
  count_ = count;
  mark_ = mark;
  return absl::OkStatus();
}

}  // namespace p2::store
