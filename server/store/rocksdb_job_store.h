// The JobStore on RocksDB. docs/storage-format.md describes what is on disk.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/store/job_store.h"

namespace rocksdb {
class Env;
}

namespace p2::store {

struct RocksDbJobStoreOptions {
  std::string database_path;
  // File of the CommitCounter; empty: none is kept (in memory only).
  std::string commits_path;
  // Null: the operating system's files. Borrowed.
  rocksdb::Env* env = nullptr;
};

// Makes the database if there is none. Silent loss is refused:
//   DATA_LOSS            a damaged log or table; a database behind its commit counter, or without one
//   FAILED_PRECONDITION  written by a newer p2
absl::StatusOr<std::unique_ptr<JobStore>> OpenRocksDbJobStore(const RocksDbJobStoreOptions& options);

class Database;
// On a database that is open, which must outlive the store: the store is then its only writer.
std::unique_ptr<JobStore> NewRocksDbJobStore(Database& database);

}  // namespace p2::store
