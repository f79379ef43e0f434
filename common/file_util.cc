#include "common/file_util.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "common/status_macros.h"

namespace p2 {

void UniqueFd::reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

absl::Status FileError(absl::string_view what, const std::string& path) {
  const int error = errno;
  const std::string message = absl::StrCat("cannot ", what, " ", path);
  if (error == EIO || error == ESTALE || error == ETIMEDOUT || error == EHOSTDOWN) {
    return absl::UnavailableError(absl::StrCat(message, ": ", std::strerror(error)));
  }
  return absl::ErrnoToStatus(error, message);
}

absl::Status PReadAll(int fd, const std::string& path, uint64_t offset, absl::Span<uint8_t> out) {
  while (!out.empty()) {
    const ssize_t n = pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return absl::UnavailableError(absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
    if (n == 0)
      return absl::DataLossError(absl::StrCat(path, " ends at byte ", offset, ", ", out.size(), " bytes too early"));
    out.remove_prefix(n);
    offset += n;
  }
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, const std::string& path, absl::Span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError("write", path);
    bytes.remove_prefix(n);
  }
  return absl::OkStatus();
}

absl::Status WriteAll(int fd, const std::string& path, absl::string_view bytes) {
  return WriteAll(fd, path, absl::MakeConstSpan(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()));
}

absl::StatusOr<std::vector<uint8_t>> ReadWhole(int fd, const std::string& path, size_t limit) {
  struct stat info;
  if (fstat(fd, &info) != 0) return FileError("stat", path);
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  if (static_cast<uint64_t>(info.st_size) > limit) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", info.st_size, " bytes; at most ", limit, " are read"));
  }
  std::vector<uint8_t> bytes(info.st_size);
  P2_RETURN_IF_ERROR(PReadAll(fd, path, 0, absl::MakeSpan(bytes)));
  return bytes;
}

absl::Status SyncDirectory(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.ok() || fsync(fd.get()) != 0) return FileError("fsync", path);
  return absl::OkStatus();
}

absl::Status ReplaceFile(const std::string& path, absl::string_view content, mode_t mode) {
  const std::string temp = path + ".tmp";
  {
    const UniqueFd fd(open(temp.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
    if (!fd.ok()) return FileError("create", temp);
    absl::Status written = WriteAll(fd.get(), temp, content);
    if (written.ok() && fsync(fd.get()) != 0) written = FileError("fsync", temp);
    if (!written.ok()) {
      unlink(temp.c_str());
      return written;
    }
  }
  if (std::rename(temp.c_str(), path.c_str()) != 0) return FileError("rename to", path);
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return SyncDirectory(parent.empty() ? "." : parent);
}

}  // namespace p2
