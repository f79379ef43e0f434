// A file that appears whole and checked, or not at all.
#pragma once

#include <openssl/evp.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace p2::client {

// Writes to a temporary file beside `path`; Commit renames it. One that is destroyed before leaves nothing.
// Thread-compatible.
class FileSink {
 public:
  // The errno's code with the path if the directory cannot be written.
  static absl::StatusOr<std::unique_ptr<FileSink>> Create(const std::string& path);
  ~FileSink();
  FileSink(const FileSink&) = delete;
  FileSink& operator=(const FileSink&) = delete;

  absl::Status Append(absl::string_view data);

  // DATA_LOSS if what was written has another size or SHA-256 (hex).
  absl::Status Commit(int64_t size_bytes, absl::string_view sha256);

 private:
  struct FreeDigest {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  FileSink(std::string path, std::string temporary, int fd);
  absl::Status Error(absl::string_view what) const;

  const std::string path_;
  const std::string temporary_;
  int fd_;
  int64_t size_bytes_ = 0;
  const std::unique_ptr<EVP_MD_CTX, FreeDigest> digest_;
};

}  // namespace p2::client
