// Old chunks of metric rows made smaller: JobStore::PrepareThinning. docs/storage-format.md says what becomes of them.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "p2/storage/v1/records.pb.h"
#include "server/store/database.h"
#include "server/store/job_store.h"
#include "server/store/keys.h"

namespace p2::store {

// Of the record that has the chunk under `chunk`, full since `since`, thinned one day. Its fields are the time and
// those of `chunk`, so that the chunk is found by it and it tells its age first.
Key ThinningDueKey(absl::Time since, const Key& chunk);

// One row of every 16 neighbours of a chunk as it was reported: of each column the mean, the count and the range. Rows
// on both sides of `last_good` (Supersedes) do not mix. Changes nothing where that was done before.
void ThinChunk(p2::storage::v1::MetricChunk& chunk, int64_t last_good);

// JobStore::PrepareThinning. A chunk that is gone, with its job, leaves its note behind only; one that cannot be read
// is left as it is, for `admin check` to find. `front`: the last note that was taken before, so that RocksDB need not
// step over those; empty: from the beginning.
absl::StatusOr<std::vector<ThinnedChunk>> ThinDueChunks(const Database::View& view, absl::Time older_than,
                                                        absl::Duration budget, absl::string_view front);

// JobStore::CommitThinning up to the write.
void PutThinned(const std::vector<ThinnedChunk>& chunks, Batch& batch);

}  // namespace p2::store
