// p2d's one directory:
//   LOCK      held by the running p2d
//   ballast   space given back before the database is opened on a full disk (RocksDB aborts on ENOSPC)
//   commits   CommitCounter
//   db/       RocksDB            blobs/    BlobStore
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/store/file_io.h"

namespace p2::store {

struct DiskSpace {
  int64_t free_bytes = 0;
  int64_t total_bytes = 0;
};

// Whether the disk takes new work. Admissions stop when less than 5 % (at most 2 GiB) is free and come back at 10 % (at
// most 4 GiB); what runs goes on, and reads are served. Thread-compatible.
class DiskWatermark {
 public:
  // The state after looking at `space`.
  bool Update(const DiskSpace& space);
  bool full() const { return full_; }
  // What to tell a client that is refused: the space, the watermark, what to do.
  static std::string Message(const DiskSpace& space, absl::string_view directory);

 private:
  bool full_ = false;
};

// Asks the file system of `path`; injected so that tests can fill the disk.
using DiskSpaceFn = std::function<absl::StatusOr<DiskSpace>(const std::string& path)>;
// By statvfs: what an unprivileged process may still write.
absl::StatusOr<DiskSpace> StatDiskSpace(const std::string& path);

struct DataDirectoryOptions {
  std::string path;
  int64_t ballast_bytes = int64_t{64} << 20;
  DiskSpaceFn disk_space = StatDiskSpace;
};

// Thread-safe.
class DataDirectory {
 public:
  // Makes the directory if needed, locks it and frees the ballast. FAILED_PRECONDITION, with the holder's process ID,
  // if another process has it.
  static absl::StatusOr<std::unique_ptr<DataDirectory>> Open(DataDirectoryOptions options);
  DataDirectory(const DataDirectory&) = delete;
  DataDirectory& operator=(const DataDirectory&) = delete;

  const std::string& path() const { return options_.path; }
  std::string database_path() const { return options_.path + "/db"; }
  std::string commits_path() const { return options_.path + "/commits"; }
  std::string blobs_path() const { return options_.path + "/blobs"; }

  // Takes the ballast's space again if four times as much is free and it is not taken yet. Call once the database is
  // open, and whenever space may have come back.
  absl::Status RestoreBallast();
  absl::StatusOr<DiskSpace> Space() const { return options_.disk_space(options_.path); }

 private:
  DataDirectory(DataDirectoryOptions options, File lock) : options_(std::move(options)), lock_(std::move(lock)) {}

  // Constant after construction.
  const DataDirectoryOptions options_;
  const File lock_;
};

}  // namespace p2::store
