#include "server/store/manifest_mark.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/crc32c.h"
#include "common/status_macros.h"
#include "server/store/file_io.h"

namespace p2::store {
namespace {

constexpr int64_t kMaxNameBytes = 64;

std::string PathOf(const std::string& database_path, uint64_t number) {
  return absl::StrCat(database_path, "/MANIFEST-", absl::Dec(number, absl::kZeroPad6));
}

// Number of the MANIFEST that CURRENT names; 0 if it names none, which RocksDB itself refuses where it matters.
absl::StatusOr<uint64_t> CurrentNumber(const std::string& database_path) {
  const absl::StatusOr<File> current = File::Open(database_path + "/CURRENT", O_RDONLY);
  if (absl::IsNotFound(current.status())) return 0;
  P2_RETURN_IF_ERROR(current.status());
  P2_ASSIGN_OR_RETURN(const std::string text, current->ReadAt(0, kMaxNameBytes));
  absl::string_view name = absl::StripAsciiWhitespace(text);
  uint64_t number = 0;
  return absl::ConsumePrefix(&name, "MANIFEST-") && absl::SimpleAtoi(name, &number) ? number : 0;
}

}  // namespace

absl::StatusOr<ManifestMark> TakeManifestMark(const std::string& database_path, const ManifestMark& known) {
  struct stat info;
  if (known.number != 0 && stat(PathOf(database_path, known.number).c_str(), &info) == 0 &&
      static_cast<uint64_t>(info.st_size) == known.bytes) {
    return known;
  }
  ManifestMark mark;
  P2_ASSIGN_OR_RETURN(mark.number, CurrentNumber(database_path));
  if (mark.number == 0) return known;
  P2_ASSIGN_OR_RETURN(File file, File::Open(PathOf(database_path, mark.number), O_RDONLY));
  // RocksDB may be appending: what was there before the sync is on disk after it.
  P2_ASSIGN_OR_RETURN(const int64_t size, file.Size());
  P2_RETURN_IF_ERROR(file.Sync());
  P2_ASSIGN_OR_RETURN(const std::string bytes, file.ReadAt(0, size));
  mark.bytes = bytes.size();
  mark.crc = Crc32c(bytes);
  return mark;
}

absl::Status CheckManifest(const std::string& database_path, const ManifestMark& mark) {
  if (mark.number == 0) return absl::OkStatus();
  P2_ASSIGN_OR_RETURN(const uint64_t number, CurrentNumber(database_path));
  // A start writes a new one, from one that was checked.
  if (number == 0 || number > mark.number) return absl::OkStatus();
  const std::string path = PathOf(database_path, number);
  if (number < mark.number) {
    return absl::DataLossError(absl::StrCat("the database goes by ", path, ", but went by number ", mark.number,
                                            " before; it is damaged and is not served: restore a backup"));
  }
  P2_ASSIGN_OR_RETURN(const File file, File::Open(path, O_RDONLY));
  P2_ASSIGN_OR_RETURN(const std::string bytes, file.ReadAt(0, static_cast<int64_t>(mark.bytes)));
  if (bytes.size() == mark.bytes && Crc32c(bytes) == mark.crc) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(path, " is not what it was: its first ", mark.bytes,
                                          " bytes were cut off or changed; the database is damaged and is not "
                                          "served: restore a backup"));
}

}  // namespace p2::store
