#include "server/store/blob_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/failpoint.h"
#include "common/resource_name.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "server/store/file_io.h"

namespace p2::store {
namespace {

constexpr absl::string_view kPart = ".part";
// Far beyond any real log; a corrupt offset cannot make a sparse giant.
constexpr int64_t kMaxLogBytes = int64_t{1} << 36;
constexpr int kMaxNumber = 1 << 20;

absl::Status CheckJob(absl::string_view job) {
  if (IsResourceId(job)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("job ID \"", absl::CHexEscape(job.substr(0, 100)), "\" is not valid"));
}

absl::Status CheckArtifact(absl::string_view job, absl::string_view file_name) {
  P2_RETURN_IF_ERROR(CheckJob(job));
  if (IsDottedId(file_name) && !absl::EndsWith(file_name, kPart)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("artifact file name \"", absl::CHexEscape(file_name.substr(0, 100)),
                                                 "\" is not of the form [a-z0-9][a-z0-9._-]{0,62}"));
}

std::string LogPath(absl::string_view base, absl::string_view job, int attempt, int rank) {
  return absl::StrCat(base, "/logs/", job, "/attempt-", attempt, "/rank-", rank, ".log");
}

std::string ArtifactPath(absl::string_view base, absl::string_view job, absl::string_view file_name) {
  return absl::StrCat(base, "/artifacts/", job, "/", file_name);
}

absl::StatusOr<std::string> FileSha256(const std::string& path) {
  P2_ASSIGN_OR_RETURN(const File file, File::Open(path, O_RDONLY));
  Sha256 sha256;
  for (int64_t offset = 0;;) {
    P2_ASSIGN_OR_RETURN(const std::string data, file.ReadAt(offset, 1 << 20));
    if (data.empty()) return Hex(sha256.Finish());
    sha256.Update(absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(data.data()), data.size()));
    offset += static_cast<int64_t>(data.size());
  }
}

// Sizes and digests match: the file under its final name is what `piece` belongs to.
absl::StatusOr<bool> IsComplete(const std::string& path, const ArtifactPiece& piece) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return false;
    return ErrnoError("stat", path);
  }
  if (info.st_size != piece.size_bytes) return false;
  P2_ASSIGN_OR_RETURN(const std::string digest, FileSha256(path));
  return digest == piece.sha256;
}

// Names in a directory without . and ..; empty if it is not there.
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path) {
  std::vector<std::string> names;
  struct Close {
    void operator()(DIR* directory) const { closedir(directory); }
  };
  const std::unique_ptr<DIR, Close> directory(opendir(path.c_str()));
  if (directory == nullptr) {
    if (errno == ENOENT) return names;
    return ErrnoError("opendir", path);
  }
  while (const dirent* entry = readdir(directory.get())) {
    const absl::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  return names;
}

absl::Status RemoveTree(const std::string& path) {
  P2_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(path));
  for (const std::string& name : names) {
    const std::string child = absl::StrCat(path, "/", name);
    if (unlink(child.c_str()) == 0 || errno == ENOENT) continue;
    if (errno != EISDIR) return ErrnoError("unlink", child);
    P2_RETURN_IF_ERROR(RemoveTree(child));
  }
  return rmdir(path.c_str()) == 0 || errno == ENOENT ? absl::OkStatus() : ErrnoError("rmdir", path);
}

// "attempt-3" -> 3.
bool ParseNumber(absl::string_view name, absl::string_view prefix, absl::string_view suffix, int& number) {
  return absl::ConsumePrefix(&name, prefix) && absl::ConsumeSuffix(&name, suffix) && absl::SimpleAtoi(name, &number);
}

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t offset, int64_t max_bytes) {
  P2_ASSIGN_OR_RETURN(const File file, File::Open(path, O_RDONLY));
  return file.ReadAt(std::max<int64_t>(0, offset), max_bytes);
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlobStore>> BlobStore::Open(const std::string& directory) {
  P2_RETURN_IF_ERROR(MakeDirectories(directory + "/logs"));
  P2_RETURN_IF_ERROR(MakeDirectories(directory + "/artifacts"));
  return std::unique_ptr<BlobStore>(new BlobStore(directory));
}

absl::Status BlobStore::WriteAt(const std::string& path, int64_t offset, absl::string_view data, bool truncate) {
  P2_RETURN_IF_ERROR(P2_FAILPOINT("blob.before_write"));
  const int flags = O_WRONLY | O_CREAT | (truncate ? O_TRUNC : 0);
  absl::StatusOr<File> file = File::Open(path, flags);
  if (absl::IsNotFound(file.status())) {
    P2_RETURN_IF_ERROR(MakeDirectories(ParentDirectory(path)));
    file = File::Open(path, flags);
  }
  if (!file.ok()) return file.status();
  P2_RETURN_IF_ERROR(file->WriteAt(offset, data));
  absl::MutexLock lock(&mutex_);
  dirty_.insert(path);
  dirty_.insert(ParentDirectory(path));
  return absl::OkStatus();
}

absl::Status BlobStore::WriteLog(absl::string_view job, int attempt, int rank, int64_t offset, absl::string_view data) {
  P2_RETURN_IF_ERROR(CheckJob(job));
  if (attempt < 1 || attempt > kMaxNumber || rank < 0 || rank > kMaxNumber || offset < 0 || offset > kMaxLogBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("log of job ", job, ": attempt ", attempt, ", rank ", rank, ", offset ", offset, " cannot be"));
  }
  return WriteAt(LogPath(directory_, job, attempt, rank), offset, data, /*truncate=*/false);
}

absl::StatusOr<std::vector<LogFile>> BlobStore::ListLogs(absl::string_view job) const {
  P2_RETURN_IF_ERROR(CheckJob(job));
  std::vector<LogFile> logs;
  const std::string base = absl::StrCat(directory_, "/logs/", job);
  P2_ASSIGN_OR_RETURN(const std::vector<std::string> attempts, ListDirectory(base));
  for (const std::string& attempt_name : attempts) {
    int attempt = 0;
    if (!ParseNumber(attempt_name, "attempt-", "", attempt)) continue;
    P2_ASSIGN_OR_RETURN(const std::vector<std::string> ranks, ListDirectory(absl::StrCat(base, "/", attempt_name)));
    for (const std::string& rank_name : ranks) {
      int rank = 0;
      struct stat info;
      if (ParseNumber(rank_name, "rank-", ".log", rank) &&
          stat(LogPath(directory_, job, attempt, rank).c_str(), &info) == 0) {
        logs.push_back({.attempt = attempt, .rank = rank, .size_bytes = info.st_size});
      }
    }
  }
  std::sort(logs.begin(), logs.end(), [](const LogFile& a, const LogFile& b) {
    return std::pair(a.attempt, a.rank) < std::pair(b.attempt, b.rank);
  });
  return logs;
}

absl::StatusOr<std::string> BlobStore::ReadLog(absl::string_view job, int attempt, int rank, int64_t offset,
                                               int64_t max_bytes) const {
  P2_RETURN_IF_ERROR(CheckJob(job));
  return ReadFile(LogPath(directory_, job, attempt, rank), offset, max_bytes);
}

absl::StatusOr<bool> BlobStore::WriteArtifact(const ArtifactPiece& piece) {
  P2_RETURN_IF_ERROR(CheckArtifact(piece.job, piece.file_name));
  const int64_t end = piece.offset + static_cast<int64_t>(piece.data.size());
  if (piece.size_bytes < 0 || piece.size_bytes > kMaxArtifactBytes || piece.offset < 0 || end > piece.size_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("artifact ", piece.file_name, " of job ", piece.job, ": bytes ",
                                                   piece.offset, " to ", end, " of ", piece.size_bytes,
                                                   " cannot be; the limit is ", kMaxArtifactBytes, " bytes"));
  }
  const std::string path = ArtifactPath(directory_, piece.job, piece.file_name);
  const std::string part = absl::StrCat(path, kPart);
  const bool last = end == piece.size_bytes;
  if (last) {
    P2_ASSIGN_OR_RETURN(const bool complete, IsComplete(path, piece));
    if (complete) {
      unlink(part.c_str());  // Pieces that came again after the file was complete.
      return true;
    }
  }
  P2_RETURN_IF_ERROR(WriteAt(part, piece.offset, piece.data, /*truncate=*/piece.offset == 0));
  if (!last) return false;
  P2_ASSIGN_OR_RETURN(const bool whole, IsComplete(part, piece));
  if (!whole) {
    unlink(part.c_str());
    return absl::DataLossError(absl::StrCat("artifact ", piece.file_name, " of job ", piece.job, " is not the ",
                                            piece.size_bytes, " bytes with SHA-256 ", piece.sha256,
                                            " that its worker announced; it was dropped"));
  }
  P2_RETURN_IF_ERROR(SyncPath(part));
  P2_RETURN_IF_ERROR(P2_FAILPOINT("blob.before_rename"));
  if (rename(part.c_str(), path.c_str()) != 0) return ErrnoError("rename", part);
  P2_RETURN_IF_ERROR(P2_FAILPOINT("blob.after_rename"));
  P2_RETURN_IF_ERROR(SyncPath(ParentDirectory(path)));
  return true;
}

absl::StatusOr<std::string> BlobStore::ReadArtifact(absl::string_view job, absl::string_view file_name, int64_t offset,
                                                    int64_t max_bytes) const {
  P2_RETURN_IF_ERROR(CheckArtifact(job, file_name));
  return ReadFile(ArtifactPath(directory_, job, file_name), offset, max_bytes);
}

absl::Status BlobStore::Sync() {
  P2_RETURN_IF_ERROR(P2_FAILPOINT("blob.before_sync"));
  std::set<std::string> dirty;
  {
    absl::MutexLock lock(&mutex_);
    dirty.swap(dirty_);
  }
  for (const std::string& path : dirty) {
    // A finished artifact was renamed and synced; a deleted job's files are gone.
    if (absl::Status status = SyncPath(path); !status.ok() && !absl::IsNotFound(status)) return status;
  }
  return absl::OkStatus();
}

absl::Status BlobStore::DeleteJob(absl::string_view job) {
  P2_RETURN_IF_ERROR(CheckJob(job));
  P2_RETURN_IF_ERROR(RemoveTree(absl::StrCat(directory_, "/logs/", job)));
  return RemoveTree(absl::StrCat(directory_, "/artifacts/", job));
}

}  // namespace p2::store
