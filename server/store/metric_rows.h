// Metric rows as chunks on disk: one key holds up to 128 rows of one attempt (docs/storage-format.md).
#pragma once

#include <map>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "p2/storage/v1/records.pb.h"
#include "server/scheduler/action.h"
#include "server/store/database.h"
#include "server/store/job_store.h"

namespace p2::store {

// Appends rows to the last chunk of each job. Confined to the writing thread.
class MetricAppender {
 public:
  explicit MetricAppender(const Database& database) : database_(database) {}

  // Drops a row at or before the job's last one. Errors: of reading the last chunk.
  absl::Status Append(Database::Batch& batch, const scheduler::AppendMetrics& append);
  // Puts the chunks that grew since the last call.
  void Flush(Database::Batch& batch);
  void Forget(absl::string_view job);

 private:
  struct Tail {
    MetricPosition last;
    p2::storage::v1::MetricChunk chunk;
    bool dirty = false;
  };

  absl::Status LoadTail(absl::string_view job, Tail& tail) const;
  static void PutChunk(Database::Batch& batch, absl::string_view job, Tail& tail);

  const Database& database_;
  std::map<std::string, Tail, std::less<>> tails_;
};

// JobStore::ReadMetrics.
absl::Status ReadMetricRows(const Database::View& view, absl::string_view job, MetricPosition after,
                            absl::FunctionRef<bool(const MetricRow&)> visit);

}  // namespace p2::store
