// POSIX calls of the store as Status, each message with the path and errno's text.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace p2::store {

// Of errno: NOT_FOUND, RESOURCE_EXHAUSTED (no space, no descriptors), PERMISSION_DENIED, else INTERNAL.
absl::Status ErrnoError(absl::string_view call, absl::string_view path);

// Owns a file descriptor. Thread-compatible.
class File {
 public:
  // `flags` and `mode` as for open(2); O_CLOEXEC and O_NOFOLLOW are added.
  static absl::StatusOr<File> Open(const std::string& path, int flags, int mode = 0600);
  File(File&& other) noexcept : fd_(other.fd_), path_(std::move(other.path_)) { other.fd_ = -1; }
  File& operator=(File&& other) noexcept;
  ~File();

  int fd() const { return fd_; }
  absl::Status WriteAt(int64_t offset, absl::string_view data);
  // At most `max_bytes`; less only at the end of the file.
  absl::StatusOr<std::string> ReadAt(int64_t offset, int64_t max_bytes) const;
  absl::StatusOr<int64_t> Size() const;
  absl::Status Truncate(int64_t size);
  // Its data and size.
  absl::Status Sync();

 private:
  File(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}

  int fd_;
  std::string path_;
};

// Makes `path` with its parents and syncs each new entry's directory.
absl::Status MakeDirectories(const std::string& path);
// fsync of a file or directory by name. NOT_FOUND if it is gone.
absl::Status SyncPath(const std::string& path);
std::string ParentDirectory(const std::string& path);

}  // namespace p2::store
