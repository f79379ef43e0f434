// RocksDB as the store uses it: checked values by key, scans, and one synced batch at a time with its commit counter.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/store/batch.h"
#include "server/store/commit_counter.h"
#include "server/store/job_store.h"
#include "server/store/keys.h"
#include "server/store/rocksdb_job_store.h"

namespace rocksdb {
class ColumnFamilyHandle;
class DB;
class Snapshot;
}  // namespace rocksdb

namespace p2::store {

// The newest layout that this program knows.
inline constexpr int kSchemaVersion = 2;

struct StoreNumbers {
  uint64_t commits = 0;  // Batches that the database holds.
  int schema_version = 0;
  int64_t bytes = 0;  // Of its tables, those in memory included.
};

// Reads are thread-safe; Write is called from one thread.
class Database {
 public:
  // Errors as OpenRocksDbJobStore.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const RocksDbJobStoreOptions& options);
  // For reading alone: changes no file, migrates nothing, takes an older schema. NOT_FOUND if there is no database,
  // else as Open. Write fails.
  static absl::StatusOr<std::unique_ptr<Database>> OpenReadOnly(const RocksDbJobStoreOptions& options);
  ~Database();

  // As it is now. Cheaper than a view where one key is all that is asked for.
  absl::StatusOr<std::optional<std::string>> Get(const Key& key) const { return Get(key, nullptr); }

  // What readers see stays as it is now for as long as the view lives.
  class View {
   public:
    // Whether RocksDB keeps the blocks that are read, for those who read them again.
    enum class Blocks { kKeep, kForget };
    explicit View(const Database& database, Blocks blocks = Blocks::kKeep);
    ~View();
    View(const View&) = delete;
    View& operator=(const View&) = delete;

    absl::StatusOr<std::optional<std::string>> Get(const Key& key) const { return database_.Get(key, snapshot_); }
    using Visit = absl::FunctionRef<bool(absl::string_view key, absl::string_view payload)>;
    // Values of `prefix`, by key, from `first` on (the key's bytes; empty: all), until `visit` returns false.
    absl::Status Scan(const Key& prefix, absl::string_view first, Visit visit) const;
    // The same downwards, of keys below `before`.
    absl::Status ScanBackwards(const Key& prefix, absl::string_view before, Visit visit) const;
    // Every key of the family with its value as it lies there, envelope unchecked.
    absl::Status ScanRaw(Family family,
                         absl::FunctionRef<bool(absl::string_view key, absl::string_view value)> visit) const;

   private:
    const Database& database_;
    const bool fill_cache_;
    const rocksdb::Snapshot* const snapshot_;
  };

  // All or nothing, durable when it returns. The first error is sticky.
  absl::Status Write(Batch& batch);
  // The same for what can be made again: it waits for no disk and is durable with the next Write or SyncUnsynced. A
  // power cut before that takes it away, and nothing else. But where the file system then keeps a later part of it
  // without an earlier one, the log counts as damaged: see that it is synced soon.
  absl::Status WriteUnsynced(Batch& batch);
  // Syncs the log if WriteUnsynced was called since it last was. Thread-safe.
  absl::Status SyncUnsynced();

  // Thread-safe.
  StoreHealth Health() const;
  absl::StatusOr<StoreNumbers> Numbers() const;
  // Reads every table against its checksums. DATA_LOSS.
  absl::Status VerifyChecksums() const;
  // Makes `directory` a consistent database of its own, of all that Write has returned for; tables are hard links where
  // the file system is the same. REQUIRES: `directory` does not exist, its parent does.
  absl::Status LinkCopy(const std::string& directory) const;

 private:
  Database(std::string path, std::unique_ptr<rocksdb::DB> db, std::vector<rocksdb::ColumnFamilyHandle*> families);
  static absl::StatusOr<std::unique_ptr<Database>> OpenAs(const RocksDbJobStoreOptions& options, bool read_only);

  rocksdb::ColumnFamilyHandle* family(Family family) const { return families_[static_cast<size_t>(family)]; }
  // A newer schema is refused, an older one migrated (migrations.h), a new database gets the newest.
  absl::Status CheckVersion(bool read_only);
  // The database's count against the counter's, which is brought up if the database is ahead.
  absl::Status CheckCommits(std::unique_ptr<CommitCounter> counter, bool read_only);
  absl::Status WriteLog(const Batch& batch, bool sync);
  absl::StatusOr<std::optional<std::string>> Get(const Key& key, const rocksdb::Snapshot* snapshot) const;
  // Of all that is synced, with the MANIFEST as it is.
  absl::Status SetCounter();

  // Constant after construction.
  const std::string path_;
  const std::unique_ptr<rocksdb::DB> db_;
  const std::vector<rocksdb::ColumnFamilyHandle*> families_;

  std::atomic<bool> unsynced_ = false;  // The log has something of WriteUnsynced.

  // Confined to the writing thread.
  std::unique_ptr<CommitCounter> counter_;
  uint64_t commits_ = 0;
  absl::Status broken_;
};

}  // namespace p2::store
