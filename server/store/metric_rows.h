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
#include "server/store/metric_summary.h"

namespace p2::store {

// How many values a row on disk holds, and what it says in its column `i` below that.
int ValuesOf(const p2::storage::v1::MetricRow& row);
MetricSummary SummaryOf(const p2::storage::v1::MetricRow& row, int i);

// Appends rows to the last chunk of each job. One that is full, or whose attempt is over, is left for a new one and
// never grows again: from then on its age counts (kThinningDue). Confined to the writing thread.
class MetricAppender {
 public:
  explicit MetricAppender(const Database& database) : database_(database) {}

  // Drops a row at or before the job's last one. Errors: of reading the last chunk.
  absl::Status Append(Batch& batch, const scheduler::AppendMetrics& append);
  // Puts the chunks that grew since the last call.
  void Flush(Batch& batch);
  void Forget(absl::string_view job);

 private:
  struct Tail {
    MetricPosition last;
    p2::storage::v1::MetricChunk chunk;
    bool dirty = false;
  };

  absl::Status LoadTail(absl::string_view job, Tail& tail) const;
  static void PutChunk(Batch& batch, absl::string_view job, Tail& tail);

  const Database& database_;
  std::map<std::string, Tail, std::less<>> tails_;
};

// JobStore::ReadMetrics.
absl::Status ReadMetricRows(const Database::View& view, absl::string_view job, MetricPosition after,
                            absl::FunctionRef<bool(const MetricRow&)> visit);

// JobStore::ReadMetricsBetween. Of each attempt it looks for the first chunk by bisection: a few chunks are read for
// their first row, about as many as the number of rows has binary digits.
absl::Status ReadMetricRowsBetween(const Database::View& view, absl::string_view job, int64_t first_images,
                                   int64_t last_images, absl::FunctionRef<void(const MetricRow&)> visit);

}  // namespace p2::store
