#include "server/store/database.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/error_reason.h"
#include "common/failpoint.h"
#include "common/status_macros.h"
#include "rocksdb/cache.h"
#include "rocksdb/db.h"
#include "rocksdb/env.h"
#include "rocksdb/filter_policy.h"
#include "rocksdb/options.h"
#include "rocksdb/table.h"
#include "rocksdb/utilities/checkpoint.h"
#include "rocksdb/write_batch.h"
#include "server/store/migrations.h"

namespace p2::store {
namespace {

const Key& SchemaKey() {
  static const Key& key = *new Key(Key(kMeta).Text("schema_version"));
  return key;
}

const Key& CommitsKey() {
  static const Key& key = *new Key(Key(kMeta).Text("commits"));
  return key;
}

absl::string_view Bytes(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }
rocksdb::Slice ToSlice(absl::string_view text) { return {text.data(), text.size()}; }

absl::Status FromRocksDb(const rocksdb::Status& status, absl::string_view what) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat("database: ", what, ": ", status.ToString());
  if (status.IsCorruption()) {
    return absl::DataLossError(absl::StrCat(message, "; it is damaged and is not served: restore a backup"));
  }
  return Error(status.IsNoSpace() ? ErrorReason::kDiskFull : ErrorReason::kStoreFailed, message);
}

constexpr size_t kBlockCacheBytes = 16 << 20;  // Of all families together.

rocksdb::DBOptions DbOptions(rocksdb::Env* env) {
  rocksdb::DBOptions options;
  if (env != nullptr) options.env = env;
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  options.paranoid_checks = true;
  // The default recovery mode drops acknowledged records behind a flipped byte, silently (RELIABILITY.md 0.2).
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.track_and_verify_wals_in_manifest = true;
  options.max_total_wal_size = 64 << 20;
  options.max_background_jobs = 2;
  options.max_open_files = 256;
  options.keep_log_file_num = 4;
  options.max_log_file_size = 4 << 20;
  return options;
}

rocksdb::ColumnFamilyOptions FamilyOptions(const std::shared_ptr<rocksdb::Cache>& blocks) {
  rocksdb::ColumnFamilyOptions options;
  options.write_buffer_size = 16 << 20;
  options.level_compaction_dynamic_level_bytes = true;
  rocksdb::BlockBasedTableOptions table;
  table.format_version = 5;
  table.block_cache = blocks;
  // Most reads ask for what is not there: a new job's ID, a new request's.
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  options.memtable_whole_key_filtering = true;
  options.memtable_prefix_bloom_size_ratio = 0.02;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

absl::StatusOr<uint64_t> ParseNumber(const std::string& text, absl::string_view what) {
  uint64_t number = 0;
  if (!absl::SimpleAtoi(text, &number)) {
    return absl::DataLossError(absl::StrCat("database: ", what, " is \"", text, "\", which is no number"));
  }
  return number;
}

// The counter beside the database, or a new one beside a new database. Null without a path.
absl::StatusOr<std::unique_ptr<CommitCounter>> OpenCounter(const std::string& path, bool database_exists) {
  if (path.empty()) return nullptr;
  absl::StatusOr<std::unique_ptr<CommitCounter>> counter = CommitCounter::Open(path);
  if (absl::IsNotFound(counter.status())) {
    if (!database_exists) return CommitCounter::Create(path, 0);
    return absl::DataLossError(absl::StrCat("commit counter ", path,
                                            " is missing beside a database that has data: "
                                            "nobody can tell whether the database is whole; restore a backup"));
  }
  return counter;
}

}  // namespace

Database::Database(std::string path, std::unique_ptr<rocksdb::DB> db,
                   std::vector<rocksdb::ColumnFamilyHandle*> families)
    : path_(std::move(path)), db_(std::move(db)), families_(std::move(families)) {}

Database::~Database() {
  for (rocksdb::ColumnFamilyHandle* handle : families_) db_->DestroyColumnFamilyHandle(handle);
  db_->Close();
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const RocksDbJobStoreOptions& options) {
  return OpenAs(options, /*read_only=*/false);
}

absl::StatusOr<std::unique_ptr<Database>> Database::OpenReadOnly(const RocksDbJobStoreOptions& options) {
  return OpenAs(options, /*read_only=*/true);
}

absl::StatusOr<std::unique_ptr<Database>> Database::OpenAs(const RocksDbJobStoreOptions& options, bool read_only) {
  const rocksdb::DBOptions db_options = DbOptions(options.env);
  const bool exists = db_options.env->FileExists(options.database_path + "/CURRENT").ok();
  if (read_only && !exists) return absl::NotFoundError(absl::StrCat("no database in ", options.database_path));
  P2_ASSIGN_OR_RETURN(std::unique_ptr<CommitCounter> counter, OpenCounter(options.commits_path, exists));
  if (exists && counter != nullptr) P2_RETURN_IF_ERROR(CheckManifest(options.database_path, counter->mark()));
  std::vector<std::string> names(std::begin(kFamilyNames), std::end(kFamilyNames));
  if (exists) {
    // A newer p2 may have made more; they must be opened too before its version can be read.
    std::vector<std::string> on_disk;
    P2_RETURN_IF_ERROR(FromRocksDb(rocksdb::DB::ListColumnFamilies(db_options, options.database_path, &on_disk),
                                   absl::StrCat("open ", options.database_path)));
    for (const std::string& name : on_disk) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  std::vector<rocksdb::ColumnFamilyDescriptor> descriptors;
  const std::shared_ptr<rocksdb::Cache> blocks = rocksdb::NewLRUCache(kBlockCacheBytes);
  for (const std::string& name : names) descriptors.emplace_back(name, FamilyOptions(blocks));
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* raw = nullptr;
  P2_RETURN_IF_ERROR(FromRocksDb(
      read_only ? rocksdb::DB::OpenForReadOnly(db_options, options.database_path, descriptors, &handles, &raw)
                : rocksdb::DB::Open(db_options, options.database_path, descriptors, &handles, &raw),
      absl::StrCat("open ", options.database_path)));
  std::unique_ptr<Database> database(
      new Database(options.database_path, std::unique_ptr<rocksdb::DB>(raw), std::move(handles)));
  P2_RETURN_IF_ERROR(database->CheckVersion(read_only));
  P2_RETURN_IF_ERROR(database->CheckCommits(std::move(counter), read_only));
  return database;
}

absl::Status Database::CheckVersion(bool read_only) {
  P2_ASSIGN_OR_RETURN(const std::optional<std::string> text, Get(SchemaKey()));
  uint64_t version = 0;  // A new database.
  if (text.has_value()) {
    P2_ASSIGN_OR_RETURN(version, ParseNumber(*text, "schema version"));
  }
  if (version > kSchemaVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the database has schema version ", version, " and this p2d knows ", kSchemaVersion,
                     ": it was written by a newer p2d; run that one, or restore a backup of before the upgrade"));
  }
  if (read_only || version == kSchemaVersion) return absl::OkStatus();
  Batch batch;
  if (version > 0) P2_RETURN_IF_ERROR(Migrate(View(*this), static_cast<int>(version), batch));
  batch.Put(SchemaKey(), absl::StrCat(kSchemaVersion));
  return WriteLog(batch, /*sync=*/true);
}

absl::Status Database::CheckCommits(std::unique_ptr<CommitCounter> counter, bool read_only) {
  P2_ASSIGN_OR_RETURN(const StoreNumbers numbers, Numbers());
  commits_ = numbers.commits;
  counter_ = std::move(counter);
  if (counter_ == nullptr) return absl::OkStatus();
  if (commits_ < counter_->count()) {
    return absl::DataLossError(absl::StrCat("the database holds ", commits_, " commits, but ", counter_->count(),
                                            " were acknowledged: the last ", counter_->count() - commits_,
                                            " are lost; restore a backup"));
  }
  // Also where the process ended between a synced batch and its count.
  return read_only ? absl::OkStatus() : SetCounter();
}

absl::Status Database::SetCounter() {
  P2_ASSIGN_OR_RETURN(const ManifestMark mark, TakeManifestMark(path_, counter_->mark()));
  return counter_->Set(commits_, mark);
}

absl::Status Database::WriteLog(const Batch& batch, bool sync) {
  rocksdb::WriteOptions options;
  options.sync = sync;
  rocksdb::WriteBatch ordered = batch.InOrder(families_);
  return FromRocksDb(db_->Write(options, &ordered), "write");
}

absl::Status Database::Write(Batch& batch) {
  if (!broken_.ok()) return broken_;
  batch.Put(CommitsKey(), absl::StrCat(commits_ + 1));
  broken_ = P2_FAILPOINT("store.before_write");
  if (broken_.ok()) broken_ = WriteLog(batch, /*sync=*/true);
  unsynced_ = false;
  if (broken_.ok()) broken_ = P2_FAILPOINT("store.before_commit_count");
  if (!broken_.ok()) return broken_;
  ++commits_;
  if (counter_ != nullptr) broken_ = SetCounter();
  if (broken_.ok()) broken_ = P2_FAILPOINT("store.after_commit_count");
  return broken_;
}

// It is no commit: the counter does not wait for it.
absl::Status Database::WriteUnsynced(Batch& batch) {
  if (broken_.ok()) broken_ = WriteLog(batch, /*sync=*/false);
  unsynced_ = true;
  return broken_;
}

absl::Status Database::SyncUnsynced() {
  if (!unsynced_.exchange(false)) return absl::OkStatus();
  const rocksdb::Status synced = db_->SyncWAL();
  return synced.IsNotSupported() ? absl::OkStatus() : FromRocksDb(synced, "sync");  // It lives in memory.
}

StoreHealth Database::Health() const {
  StoreHealth health;
  uint64_t errors = 0;
  health.background_error = db_->GetIntProperty(rocksdb::DB::Properties::kBackgroundErrors, &errors) && errors > 0;
  for (rocksdb::ColumnFamilyHandle* handle : families_) {
    std::map<std::string, std::string> stats;
    if (!db_->GetMapProperty(handle, rocksdb::DB::Properties::kCFStats, &stats)) continue;
    for (const char* kind : {"io_stalls.total_slowdown", "io_stalls.total_stop"}) {
      int64_t count = 0;
      if (absl::SimpleAtoi(stats[kind], &count)) health.stalls += count;
    }
  }
  return health;
}

absl::StatusOr<StoreNumbers> Database::Numbers() const {
  const View view(*this);
  StoreNumbers numbers;
  P2_ASSIGN_OR_RETURN(const std::optional<std::string> commits, view.Get(CommitsKey()));
  if (commits.has_value()) {
    P2_ASSIGN_OR_RETURN(numbers.commits, ParseNumber(*commits, "commit count"));
  }
  P2_ASSIGN_OR_RETURN(const std::optional<std::string> version, view.Get(SchemaKey()));
  if (version.has_value()) {
    P2_ASSIGN_OR_RETURN(const uint64_t number, ParseNumber(*version, "schema version"));
    numbers.schema_version = static_cast<int>(number);
  }
  for (const std::string& part :
       {rocksdb::DB::Properties::kLiveSstFilesSize, rocksdb::DB::Properties::kCurSizeAllMemTables}) {
    uint64_t bytes = 0;
    if (db_->GetAggregatedIntProperty(part, &bytes)) numbers.bytes += static_cast<int64_t>(bytes);
  }
  return numbers;
}

absl::Status Database::VerifyChecksums() const { return FromRocksDb(db_->VerifyChecksum(), "verify"); }

absl::Status Database::LinkCopy(const std::string& directory) const {
  rocksdb::Checkpoint* raw = nullptr;
  P2_RETURN_IF_ERROR(FromRocksDb(rocksdb::Checkpoint::Create(db_.get(), &raw), "copy"));
  const std::unique_ptr<rocksdb::Checkpoint> checkpoint(raw);
  return FromRocksDb(checkpoint->CreateCheckpoint(directory), "copy");
}

Database::View::View(const Database& database, Blocks blocks)
    : database_(database), fill_cache_(blocks == Blocks::kKeep), snapshot_(database.db_->GetSnapshot()) {}
Database::View::~View() { database_.db_->ReleaseSnapshot(snapshot_); }

absl::StatusOr<std::optional<std::string>> Database::Get(const Key& key, const rocksdb::Snapshot* snapshot) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot;
  std::string value;
  const rocksdb::Status status = db_->Get(options, family(key.family()), key.bytes(), &value);
  if (status.IsNotFound()) return std::nullopt;
  P2_RETURN_IF_ERROR(FromRocksDb(status, "read"));
  P2_ASSIGN_OR_RETURN(const absl::string_view payload, DecodeValue(key.bytes(), value));
  return std::string(payload);
}

absl::Status Database::View::Scan(const Key& prefix, absl::string_view first, Visit visit) const {
  const std::string end = prefix.End();
  const rocksdb::Slice bound(end);
  rocksdb::ReadOptions options;
  options.snapshot = snapshot_;
  options.fill_cache = fill_cache_;
  options.iterate_upper_bound = &bound;
  const std::unique_ptr<rocksdb::Iterator> it(database_.db_->NewIterator(options, database_.family(prefix.family())));
  for (it->Seek(first.empty() ? rocksdb::Slice(prefix.bytes()) : ToSlice(first)); it->Valid(); it->Next()) {
    P2_ASSIGN_OR_RETURN(const absl::string_view payload, DecodeValue(Bytes(it->key()), Bytes(it->value())));
    if (!visit(Bytes(it->key()), payload)) break;
  }
  return FromRocksDb(it->status(), "read");
}

absl::Status Database::View::ScanRaw(Family family,
                                     absl::FunctionRef<bool(absl::string_view, absl::string_view)> visit) const {
  rocksdb::ReadOptions options;
  options.snapshot = snapshot_;
  options.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> it(database_.db_->NewIterator(options, database_.family(family)));
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    if (!visit(Bytes(it->key()), Bytes(it->value()))) break;
  }
  return FromRocksDb(it->status(), "read");
}

absl::Status Database::View::ScanBackwards(const Key& prefix, absl::string_view before, Visit visit) const {
  const std::string end = before.empty() ? prefix.End() : std::string(before);
  const rocksdb::Slice bound(end);
  const rocksdb::Slice lowest(prefix.bytes());
  rocksdb::ReadOptions options;
  options.snapshot = snapshot_;
  options.fill_cache = fill_cache_;
  options.iterate_lower_bound = &lowest;
  options.iterate_upper_bound = &bound;
  const std::unique_ptr<rocksdb::Iterator> it(database_.db_->NewIterator(options, database_.family(prefix.family())));
  for (it->SeekToLast(); it->Valid(); it->Prev()) {
    P2_ASSIGN_OR_RETURN(const absl::string_view payload, DecodeValue(Bytes(it->key()), Bytes(it->value())));
    if (!visit(Bytes(it->key()), payload)) break;
  }
  return FromRocksDb(it->status(), "read");
}

}  // namespace p2::store
