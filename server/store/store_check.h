// Whether a database is whole: its tables' checksums, every record's envelope and message, and what records say of each
// other (docs/storage-format.md).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/store/backup_files.h"
#include "server/store/database.h"

namespace p2::store {

struct StoreFinding {
  std::string subject;  // `jobs/{job}`, `events/7`, or a key: `files a/job-a/x.png/`.
  std::string message;
};

struct StoreReport {
  static constexpr size_t kMaxFindings = 100;

  StoreNumbers numbers;
  std::map<std::string, int64_t> records;  // By kind; every kind is there.
  std::vector<StoreFinding> findings;      // The first kMaxFindings.
  int64_t finding_count = 0;
};

// Reads all of it, as it stands now; p2d may go on writing. Damage is a finding, no error. Errors: CANCELLED, and those
// of the file system.
absl::StatusOr<StoreReport> CheckStore(const Database& database, const Cancelled& cancelled);

}  // namespace p2::store
