// A backup made into a data directory, while no p2d runs on either.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace p2::store {

// Added to the epoch of every live job and of its live attempt: what runs since before, also since after, the backup is
// at an epoch that never comes again. Its reports are stale, and its worker is told to kill it.
inline constexpr int64_t kRestoreEpochs = int64_t{1} << 20;

struct Restored {
  uint64_t commits = 0;  // Batches that the database holds now.
  int live_jobs = 0;
  int64_t size_bytes = 0;
};

// Verifies the backup in `backup_dir`, copies it into `data_dir`, which is made, and fences what ran. Stopped in the
// middle, `data_dir` is one that p2d refuses to start on. Errors:
//   FAILED_PRECONDITION  data_dir has files, or a newer p2d wrote the backup
//   NOT_FOUND            no directory backup_dir
//   DATA_LOSS            the backup is damaged: nothing was written
absl::StatusOr<Restored> RestoreBackup(const std::string& backup_dir, const std::string& data_dir);

}  // namespace p2::store
