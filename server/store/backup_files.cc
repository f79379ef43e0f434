#include "server/store/backup_files.h"

#include <fcntl.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "server/store/file_io.h"

namespace p2::store {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPiece = 1 << 20;
constexpr size_t kDigestDigits = 64;

// What is in a directory; nothing if it went away.
std::vector<fs::directory_entry> EntriesOf(const std::string& directory) {
  std::vector<fs::directory_entry> entries;
  std::error_code error;
  for (fs::directory_iterator it(directory, error); !error && it != fs::directory_iterator(); it.increment(error))
    entries.push_back(*it);
  return entries;
}

absl::Status Damaged(const std::string& directory, absl::string_view what) {
  return absl::DataLossError(absl::StrCat("backup ", directory, ": ", what, "; it is damaged: use another one"));
}

// Hands the file's bytes, at most `size`, to `take`, piece by piece.
template <typename Take>
absl::StatusOr<FileSum> Read(const File& file, int64_t size, const Cancelled& cancelled, Take take) {
  Sha256 sha256;
  FileSum sum;
  while (sum.size_bytes < size) {
    if (cancelled != nullptr && cancelled()) return absl::CancelledError("the caller left");
    P2_ASSIGN_OR_RETURN(const std::string data, file.ReadAt(sum.size_bytes, std::min(kPiece, size - sum.size_bytes)));
    if (data.empty()) break;
    sha256.Update(absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(data.data()), data.size()));
    P2_RETURN_IF_ERROR(take(sum.size_bytes, data));
    sum.size_bytes += static_cast<int64_t>(data.size());
  }
  sum.sha256 = Hex(sha256.Finish());
  return sum;
}

absl::StatusOr<FileSum> CopyFile(const std::string& from, const std::string& to, const Cancelled& cancelled) {
  P2_ASSIGN_OR_RETURN(const File source, File::Open(from, O_RDONLY));
  P2_ASSIGN_OR_RETURN(const int64_t size, source.Size());
  P2_ASSIGN_OR_RETURN(File copy, File::Open(to, O_WRONLY | O_CREAT | O_EXCL));
  P2_ASSIGN_OR_RETURN(const FileSum sum, Read(source, size, cancelled, [&](int64_t offset, absl::string_view data) {
                        return copy.WriteAt(offset, data);
                      }));
  P2_RETURN_IF_ERROR(copy.Sync());
  return sum;
}

absl::Status CopyInto(const std::string& from, const std::string& to, const std::string& below,
                      const Cancelled& cancelled, FileSums& sums) {
  P2_RETURN_IF_ERROR(MakeDirectories(to));
  for (const fs::directory_entry& entry : EntriesOf(from)) {
    const std::string name = entry.path().filename().string();
    std::error_code gone;
    if (entry.is_directory(gone)) {
      P2_RETURN_IF_ERROR(CopyInto(entry.path(), to + "/" + name, absl::StrCat(below, name, "/"), cancelled, sums));
    } else if (!gone) {
      absl::StatusOr<FileSum> sum = CopyFile(entry.path(), to + "/" + name, cancelled);
      if (sum.ok()) {
        sums[below + name] = *std::move(sum);
      } else if (!absl::IsNotFound(sum.status()) || fs::exists(entry.path(), gone)) {
        return sum.status();
      }
    }
  }
  return SyncPath(to);
}

void ListInto(const std::string& directory, const std::string& below, std::vector<std::string>& paths) {
  for (const fs::directory_entry& entry : EntriesOf(directory)) {
    const std::string path = below + entry.path().filename().string();
    std::error_code gone;
    if (entry.is_directory(gone)) {
      ListInto(entry.path(), path + "/", paths);
    } else {
      paths.push_back(path);
    }
  }
}

}  // namespace

absl::StatusOr<FileSums> CopyTree(const std::string& from, const std::string& to, const Cancelled& cancelled) {
  FileSums sums;
  P2_RETURN_IF_ERROR(CopyInto(from, to, "", cancelled, sums));
  return sums;
}

int64_t TreeBytes(const std::string& directory) {
  std::vector<std::string> paths;
  ListInto(directory, "", paths);
  int64_t bytes = 0;
  for (const std::string& path : paths) {
    std::error_code gone;
    const uintmax_t size = fs::file_size(directory + "/" + path, gone);
    if (!gone) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

absl::StatusOr<FileSum> WriteFile(const std::string& path, absl::string_view text) {
  P2_ASSIGN_OR_RETURN(File file, File::Open(path, O_WRONLY | O_CREAT | O_EXCL));
  P2_RETURN_IF_ERROR(file.WriteAt(0, text));
  P2_RETURN_IF_ERROR(file.Sync());
  return FileSum{Sha256Hex(text), static_cast<int64_t>(text.size())};
}

absl::Status VerifyTree(const std::string& directory, const FileSums& sums, const Cancelled& cancelled) {
  std::vector<std::string> paths;
  ListInto(directory, "", paths);
  for (const std::string& path : paths) {
    if (path != kSumsFile && sums.find(path) == sums.end())
      return Damaged(directory, absl::StrCat(path, " is none of its files"));
  }
  for (const auto& [path, expected] : sums) {
    absl::StatusOr<File> file = File::Open(directory + "/" + path, O_RDONLY);
    if (absl::IsNotFound(file.status())) return Damaged(directory, absl::StrCat(path, " is missing"));
    if (!file.ok()) return file.status();
    posix_fadvise(file->fd(), 0, 0, POSIX_FADV_DONTNEED);
    P2_ASSIGN_OR_RETURN(const int64_t size, file->Size());
    P2_ASSIGN_OR_RETURN(const FileSum sum,
                        Read(*file, size, cancelled, [](int64_t, absl::string_view) { return absl::OkStatus(); }));
    if (sum.sha256 != expected.sha256) {
      return Damaged(directory, absl::StrCat(path, " has SHA-256 ", sum.sha256, ", not ", expected.sha256));
    }
  }
  return absl::OkStatus();
}

std::string FormatSums(const FileSums& sums) {
  std::string text;
  for (const auto& [path, sum] : sums) absl::StrAppend(&text, sum.sha256, "  ", path, "\n");
  return text;
}

absl::StatusOr<FileSums> ReadSums(const std::string& directory) {
  const absl::StatusOr<File> file = File::Open(absl::StrCat(directory, "/", kSumsFile), O_RDONLY);
  if (absl::IsNotFound(file.status())) return Damaged(directory, absl::StrCat("there is no ", kSumsFile));
  if (!file.ok()) return file.status();
  P2_ASSIGN_OR_RETURN(const int64_t size, file->Size());
  P2_ASSIGN_OR_RETURN(const std::string text, file->ReadAt(0, size));
  FileSums sums;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const absl::string_view digest = line.substr(0, kDigestDigits);
    const bool whole = line.size() > kDigestDigits + 2 && line.substr(kDigestDigits, 2) == "  " &&
                       std::all_of(digest.begin(), digest.end(), [](char c) { return absl::ascii_isxdigit(c); });
    const std::string path(whole ? line.substr(kDigestDigits + 2) : "");
    if (path.empty() || path.front() == '/' || absl::StrContains(absl::StrCat("/", path, "/"), "/../"))
      return Damaged(directory, absl::StrCat(kSumsFile, " has the line \"", line.substr(0, 200), "\""));
    std::error_code missing;
    const uintmax_t bytes = fs::file_size(directory + "/" + path, missing);
    sums[path] = {std::string(digest), missing ? 0 : static_cast<int64_t>(bytes)};
  }
  return sums;
}

}  // namespace p2::store
