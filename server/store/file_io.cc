#include "server/store/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error_reason.h"
#include "common/status_macros.h"

namespace p2::store {

absl::Status ErrnoError(absl::string_view call, absl::string_view path) {
  const int error = errno;
  const std::string message = absl::StrCat(path, ": ", call, ": ", strerror(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case ENOSPC:
    case EDQUOT:
      return Error(ErrorReason::kDiskFull, message);
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    default:
      return Error(ErrorReason::kStoreFailed, message);
  }
}

absl::StatusOr<File> File::Open(const std::string& path, int flags, int mode) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode);
  if (fd < 0) return ErrnoError("open", path);
  return File(fd, path);
}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

File::~File() {
  if (fd_ >= 0) close(fd_);
}

absl::Status File::WriteAt(int64_t offset, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t written = pwrite(fd_, data.data(), data.size(), offset);
    if (written < 0) {
      if (errno == EINTR) continue;
      return ErrnoError("write", path_);
    }
    data.remove_prefix(static_cast<size_t>(written));
    offset += written;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> File::ReadAt(int64_t offset, int64_t max_bytes) const {
  std::string data(static_cast<size_t>(std::max<int64_t>(0, max_bytes)), '\0');
  size_t size = 0;
  while (size < data.size()) {
    const ssize_t got = pread(fd_, data.data() + size, data.size() - size, offset + static_cast<int64_t>(size));
    if (got < 0) {
      if (errno == EINTR) continue;
      return ErrnoError("read", path_);
    }
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  data.resize(size);
  return data;
}

absl::StatusOr<int64_t> File::Size() const {
  struct stat info;
  if (fstat(fd_, &info) != 0) return ErrnoError("stat", path_);
  return static_cast<int64_t>(info.st_size);
}

absl::Status File::Truncate(int64_t size) {
  return ftruncate(fd_, size) == 0 ? absl::OkStatus() : ErrnoError("truncate", path_);
}

absl::Status File::Sync() { return fdatasync(fd_) == 0 ? absl::OkStatus() : ErrnoError("fdatasync", path_); }

std::string ParentDirectory(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status MakeDirectories(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0) return SyncPath(ParentDirectory(path));
  if (errno == EEXIST) {
    struct stat info;
    if (stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) return absl::OkStatus();
    return absl::FailedPreconditionError(absl::StrCat(path, " is not a directory"));
  }
  if (errno != ENOENT || ParentDirectory(path) == path) return ErrnoError("mkdir", path);
  P2_RETURN_IF_ERROR(MakeDirectories(ParentDirectory(path)));
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return ErrnoError("mkdir", path);
  return SyncPath(ParentDirectory(path));
}

absl::Status SyncPath(const std::string& path) {
  P2_ASSIGN_OR_RETURN(File file, File::Open(path, O_RDONLY));
  return file.Sync();
}

}  // namespace p2::store
