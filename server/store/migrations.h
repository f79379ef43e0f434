// Older layouts of the database made into the newest one, when it is opened. Forward only: a p2d refuses a newer one.
//   1 -> 2    Job.order_key, where it is 0, becomes the default that readers took it for
#pragma once

#include "absl/status/status.h"
#include "server/store/database.h"

namespace p2::store {

// Puts into `batch` what makes schema `from` (1 or more) kSchemaVersion; the version itself is the caller's to write,
// in the same batch, so that a migration has happened whole or not at all. DATA_LOSS if a record is damaged.
absl::Status Migrate(const Database::View& view, int from, Batch& batch);

}  // namespace p2::store
