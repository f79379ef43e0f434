#include "client/download.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace p2::client {

absl::StatusOr<std::unique_ptr<FileSink>> FileSink::Create(const std::string& path) {
  std::string temporary = absl::StrCat(path, ".XXXXXX");
  const int fd = mkstemp(temporary.data());
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot write ", path));
  const mode_t mask = umask(0);
  umask(mask);
  fchmod(fd, 0666 & ~mask);  // As any new file; mkstemp's are private.
  return std::unique_ptr<FileSink>(new FileSink(path, std::move(temporary), fd));
}

FileSink::FileSink(std::string path, std::string temporary, int fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd), digest_(EVP_MD_CTX_new()) {
  EVP_DigestInit_ex(digest_.get(), EVP_sha256(), nullptr);
}

FileSink::~FileSink() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_.c_str());
}

absl::Status FileSink::Error(absl::string_view what) const {
  return absl::ErrnoToStatus(errno, absl::StrCat("cannot ", what, " ", path_));
}

absl::Status FileSink::Append(absl::string_view data) {
  EVP_DigestUpdate(digest_.get(), data.data(), data.size());
  size_bytes_ += static_cast<int64_t>(data.size());
  while (!data.empty()) {
    const ssize_t written = write(fd_, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return Error("write");
    data.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status FileSink::Commit(int64_t size_bytes, absl::string_view sha256) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int length = 0;
  EVP_DigestFinal_ex(digest_.get(), digest, &length);
  const std::string got = absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), length));
  if (size_bytes_ != size_bytes || got != sha256) {
    return absl::DataLossError(absl::StrCat(path_, ": received ", size_bytes_, " bytes with SHA-256 ", got,
                                            ", the record says ", size_bytes, " bytes with ", sha256,
                                            "; nothing was kept"));
  }
  if (fsync(fd_) != 0) return Error("sync");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) return Error("rename to");
  close(std::exchange(fd_, -1));
  return absl::OkStatus();
}

}  // namespace p2::client
