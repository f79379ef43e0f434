// Files of a backup: copied with their digests, synced, and read back against them.
//
// SHA256SUMS lists every other file of the backup as sha256sum writes it, so that `sha256sum -c SHA256SUMS` checks a
// backup without p2.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace p2::store {

inline constexpr char kSumsFile[] = "SHA256SUMS";

struct FileSum {
  std::string sha256;  // Hex.
  int64_t size_bytes = 0;
};
// By path below the backup's directory.
using FileSums = std::map<std::string, FileSum>;

// Asked between pieces of a file; true ends the work with CANCELLED. May be null.
using Cancelled = std::function<bool()>;

// Copies the regular files below `from` to `to`, which is made, synced with their directories. Files that are removed
// meanwhile are left out; of one that grows, what was there when it was opened is copied.
absl::StatusOr<FileSums> CopyTree(const std::string& from, const std::string& to, const Cancelled& cancelled);

// Bytes of the regular files below `directory`; 0 if it is not there.
int64_t TreeBytes(const std::string& directory);

// Writes `text` to a new file, synced.
absl::StatusOr<FileSum> WriteFile(const std::string& path, absl::string_view text);

// Reads every file of `sums` below `directory` from the disk, not from the page cache where the system allows that.
// DATA_LOSS: one is missing or differs, or there is a file that `sums` does not name.
absl::Status VerifyTree(const std::string& directory, const FileSums& sums, const Cancelled& cancelled);

std::string FormatSums(const FileSums& sums);
// Of SHA256SUMS in `directory`; sizes are those on the disk. DATA_LOSS if it is missing or no such list.
absl::StatusOr<FileSums> ReadSums(const std::string& directory);

}  // namespace p2::store
