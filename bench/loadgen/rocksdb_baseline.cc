#include <memory>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/loadgen/baselines.h"
#include "common/status_macros.h"
#include "rocksdb/db.h"
#include "rocksdb/write_batch.h"

namespace p2::loadgen {

absl::StatusOr<LoadResult> RunRocksDb(const BaselineOptions& options) {
  PinTo(options.cores.server);
  P2_ASSIGN_OR_RETURN(const auto directory, TemporaryDirectory::Make(options.parent_directory));
  rocksdb::Options database_options;
  database_options.create_if_missing = true;
  rocksdb::DB* raw = nullptr;
  if (const rocksdb::Status opened = rocksdb::DB::Open(database_options, directory->path() + "/db", &raw); !opened.ok())
    return absl::InternalError(opened.ToString());
  const std::unique_ptr<rocksdb::DB> database(raw);
  std::mt19937_64 random(options.load.seed);
  std::string value(static_cast<size_t>(options.stored_bytes), '\0');
  for (char& c : value) c = static_cast<char>(random());  // Not to be compressed away.
  return RunBlockingLoad(options.load, [&](int, int64_t index) {
    rocksdb::WriteBatch batch;
    batch.Put(absl::StrCat("job-", index), value);
    rocksdb::WriteOptions synced;
    synced.sync = true;
    const rocksdb::Status written = database->Write(synced, &batch);
    return written.ok() ? absl::OkStatus() : absl::InternalError(written.ToString());
  });
}

}  // namespace p2::loadgen
