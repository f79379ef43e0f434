// POSIX calls on files as Status; each message names the path and the reason.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace p2 {

// Owns a file descriptor.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  // The caller closes it.
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

// errno as a Status: "cannot WHAT PATH: reason". EIO, ESTALE and their like are UNAVAILABLE.
absl::Status FileError(absl::string_view what, const std::string& path);

// Reads exactly out.size() bytes at `offset`. DATA_LOSS if the file ends before, UNAVAILABLE if reading fails.
// Thread-safe.
absl::Status PReadAll(int fd, const std::string& path, uint64_t offset, absl::Span<uint8_t> out);
absl::Status WriteAll(int fd, const std::string& path, absl::Span<const uint8_t> bytes);
absl::Status WriteAll(int fd, const std::string& path, absl::string_view bytes);

// The whole of an open file. INVALID_ARGUMENT if it is larger than `limit` or not a regular file.
absl::StatusOr<std::vector<uint8_t>> ReadWhole(int fd, const std::string& path, size_t limit);

absl::Status SyncDirectory(const std::string& path);

// Written beside `path`, fsynced, renamed over it, the directory fsynced: a reader sees the old or the new content,
// also after a power cut.
absl::Status ReplaceFile(const std::string& path, absl::string_view content, mode_t mode = 0644);

}  // namespace p2
