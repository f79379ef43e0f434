// Backups of everything that p2d keeps, made while it serves. One is a directory (docs/storage-format.md):
//   db/           the database as of one batch, with all batches before it
//   blobs/        logs and artifacts, at least what that database knows of
//   backup.json   when, how large, how many batches
//   SHA256SUMS    of all of these
// It has its name only once every byte was read back and compared.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/store/backup_files.h"
#include "server/store/data_directory.h"
#include "server/store/database.h"

namespace p2::store {

struct Backup {
  std::string id;    // Directory's name: the time, UTC, `20261128-134500-123`.
  std::string path;  // Of the directory.
  absl::Time create_time = absl::InfinitePast(), verify_time = absl::InfinitePast();
  int64_t size_bytes = 0;
  uint64_t commits = 0;
};

struct BackupOptions {
  std::string directory;  // Of the backups.
  int keep = 24;          // REQUIRES: >= 1.
  std::string p2d_version;
  DiskSpaceFn disk_space = StatDiskSpace;
};

// Thread-safe.
class Backups {
 public:
  // Removes what a p2d that died in the middle of one has left. What it borrows must outlive it.
  Backups(const Database& database, const DataDirectory& data, BackupOptions options);

  // Makes one, verifies it, then removes the oldest beyond `keep`. Callers wait for each other; a `request_id` that
  // made the last one gets that one again. What Database::Write had returned for is in it. On an error nothing of it is
  // left: RESOURCE_EXHAUSTED (it would bring its disk below the watermark), DATA_LOSS (what was read or written is
  // damaged), CANCELLED.
  absl::StatusOr<Backup> Create(const std::string& request_id, const Cancelled& cancelled);

  // The newest one; none if there is none. Its name and path alone, and times InfinitePast, if its backup.json cannot
  // be read.
  std::optional<Backup> Last() const;

 private:
  // Into `part`, all but the last step.
  absl::StatusOr<Backup> Write(const std::string& part, absl::Time now, const Cancelled& cancelled) const;
  void RemoveLeftovers() const;
  std::string links_path() const { return data_.path() + "/backup-links"; }
  void Prune(const std::string& newest) const;
  std::vector<std::string> Ids() const;  // Oldest first.

  // Constant after construction.
  const Database& database_;
  const DataDirectory& data_;
  const BackupOptions options_;

  absl::Mutex mutex_;  // Held while one is made.
  std::string last_request_ ABSL_GUARDED_BY(mutex_);
  Backup last_answer_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::store
