// A JobStore that forgets when it is destroyed, for tests: the RocksDB one over an in-memory file system, so that both
// behave alike. Destroy and load a coordinator on one store to play a restart.
#pragma once

#include <memory>

#include "server/store/job_store.h"

namespace p2::store {

std::unique_ptr<JobStore> NewMemoryJobStore();

}  // namespace p2::store
