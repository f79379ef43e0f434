// Names from the wire, and files below directories that names from the wire may never leave.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace p2::agent {

// A file descriptor that closes itself.
class UniqueFd {
 public:
  explicit UniqueFd(int fd = -1) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

 private:
  int fd_;
};

// A plain file name of at most 255 bytes: printable, no '/', not hidden.
bool IsFileName(absl::string_view text);
// The nearest resource ID: lower case, '-' for what is not allowed, "worker" if nothing is left.
std::string ResourceIdFromHost(absl::string_view host);

// `errno` as a Status: "WHAT: No such file or directory". ENOENT is NOT_FOUND, ENOSPC RESOURCE_EXHAUSTED, else
// INTERNAL.
absl::Status ErrnoError(absl::string_view what);

// The paths below are relative to `root`; INVALID_ARGUMENT if one is absolute, empty, or has an empty, "." or ".."
// component. Every component is opened with O_NOFOLLOW, one below the other: a symbolic link is an error, never a way
// out.
absl::StatusOr<UniqueFd> OpenBeneath(const std::string& root, absl::string_view path, int flags);
// At most `max_bytes`, else RESOURCE_EXHAUSTED.
absl::StatusOr<std::string> ReadBeneath(const std::string& root, absl::string_view path, int64_t max_bytes);
absl::Status MakeDirectoriesBeneath(const std::string& root, absl::string_view path);
// Deletes the tree or file; links inside are removed, not followed. OK if it is not there. At least two components, so
// that no single wrong name can empty a root.
absl::Status DeleteBeneath(const std::string& root, absl::string_view path);

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes);
// Mode 0600, synced, and renamed into place: a reader sees the old or the new content, also after a power cut.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view content);
absl::Status SyncDirectory(const std::string& path);
// All bytes, or ErrnoError.
absl::Status WriteFully(int fd, absl::string_view bytes, absl::string_view what);

}  // namespace p2::agent
