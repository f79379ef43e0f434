// What RocksDB's MANIFEST held when a batch was acknowledged. RocksDB takes a MANIFEST whose end is cut off or zeroed
// for one that was being written when the machine stopped, and serves the tables that the rest of it names: records of
// whole column families go missing without an error. The mark, kept with the commit counter, tells (T7 of
// docs/reliability.md).
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace p2::store {

struct ManifestMark {
  uint64_t number = 0;  // Of MANIFEST-<number>; 0: none was taken.
  uint64_t bytes = 0;   // Its first ones that are known to be on disk,
  uint32_t crc = 0;     // and their CRC-32C.

  bool operator==(const ManifestMark&) const = default;
};

// The mark of the MANIFEST in use; `known` itself if that has not grown since. What it covers is synced when this
// returns. `known` also where there are no files (an in-memory database).
absl::StatusOr<ManifestMark> TakeManifestMark(const std::string& database_path, const ManifestMark& known);

// Before the database is opened: DATA_LOSS if its MANIFEST is older than `mark` or does not begin as marked.
absl::Status CheckManifest(const std::string& database_path, const ManifestMark& mark);

}  // namespace p2::store
