// Old chunks of metric rows made smaller: JobStore::ThinMetrics. docs/storage-format.md says what becomes of them.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "p2/storage/v1/records.pb.h"
#include "server/store/database.h"
#include "server/store/keys.h"

namespace p2::store {

// Of the record that has the chunk under `chunk`, full since `since`, thinned one day. Its fields are the time and
// those of `chunk`, so that the chunk is found by it and it tells its age first.
Key ThinningDueKey(absl::Time since, const Key& chunk);

// One row of every 16 neighbours of a chunk as it was reported: of each column the mean, the count and the range. Rows
// on both sides of `last_good` (Supersedes) do not mix. Changes nothing where that was done before.
void ThinChunk(p2::storage::v1::MetricChunk& chunk, int64_t last_good);

// JobStore::ThinMetrics up to the write: what it would write goes into `batch`. A chunk that is gone, with its job,
// leaves its record behind only; one that cannot be read is left as it is, for `admin check` to find. `front`: empty at
// first, then as the last call left it, so that RocksDB need not step over what that call took.
absl::StatusOr<int> ThinDueChunks(const Database::View& view, absl::Time older_than, absl::Duration budget,
                                  std::string& front, Batch& batch);

}  // namespace p2::store
