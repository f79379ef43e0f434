// What p2d keeps, behind one seam: the records of server/scheduler/types.h, metrics, events and answered requests.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "server/scheduler/action.h"
#include "server/scheduler/types.h"
#include "server/store/metric_summary.h"

namespace p2::store {

// What a starting p2d needs in memory. It costs the live jobs, not all that ever ran.
struct PersistedState {
  std::vector<scheduler::JobPtr> jobs;                // Not terminal, by ID.
  std::vector<scheduler::CheckpointPtr> checkpoints;  // Of those jobs, by job and ID.
  std::vector<scheduler::WorkerPtr> workers;          // By ID; spool_id and spool_acked as last set by SetSpoolAck.
  std::vector<scheduler::DatasetPtr> datasets;        // By ID.
  std::vector<scheduler::Deletion> deletions;
  std::vector<scheduler::QueuePtr> queues;
  std::vector<scheduler::ShareRecord> shares;
  std::vector<scheduler::QuotaRecord> quotas;
  scheduler::SetCounters counters;
};

// All values that rank 0 reported together, or what ThinMetrics left of several neighbouring rows: then attempt,
// sequence, position, step and time are those of the last of them, and each value stands for those that they held.
struct MetricRow {
  int attempt = 0;
  uint64_t sequence = 0;
  int64_t images_seen = 0, step = 0;
  absl::Time time = absl::InfinitePast();
  std::map<std::string, MetricSummary> values;
  // A later attempt started from before this point.
  bool superseded = false;
};

// Rows are ordered by (attempt, sequence).
struct MetricPosition {
  int attempt = 0;
  uint64_t sequence = 0;
  auto operator<=>(const MetricPosition&) const = default;
};

// A full chunk of metric rows, made smaller.
struct ThinnedChunk {
  std::string note;                 // Of the chunk, in the store's list of those to be thinned.
  std::optional<std::string> rows;  // Bytes of the chunk; none: it is gone, or cannot be read and stays as it is.
};

// For operators. Since the store was opened.
struct StoreHealth {
  bool background_error = false;  // Flushing or compacting failed.
  int64_t stalls = 0;             // Writes that were slowed down or stopped because compaction lags behind.
};

// Writes from one thread; reads from any, each of them a consistent snapshot of whole batches.
// Errors of every method: DATA_LOSS if what is stored does not match its checksum, INTERNAL or RESOURCE_EXHAUSTED from
// the file system.
class JobStore {
 public:
  virtual ~JobStore() = default;

  // Once, before the first Apply.
  virtual absl::StatusOr<PersistedState> Load() = 0;

  // Writes all of them or none, durably; those that are not durable are skipped. Rows that AppendMetrics brings again
  // (same job, attempt and sequence) are dropped. After an error every later call returns it too, and what the failed
  // call wrote is unknown: acknowledge nothing and end the process.
  virtual absl::Status Apply(absl::Span<const scheduler::Mutation> mutations) = 0;

  // Live or ended. NOT_FOUND.
  virtual absl::StatusOr<scheduler::JobPtr> GetJob(absl::string_view id) const = 0;
  // Ended jobs with create_order below `before`, newest first, at most `limit`.
  virtual absl::StatusOr<std::vector<scheduler::JobPtr>> ListFinishedJobs(int64_t before, int limit) const = 0;
  // IDs of ended jobs that begin with `prefix`, sorted, at most `limit`.
  virtual absl::StatusOr<std::vector<std::string>> FindFinishedJobs(absl::string_view prefix, int limit) const = 0;
  // Bytes of PutSpec. NOT_FOUND.
  virtual absl::StatusOr<std::string> GetSpec(absl::string_view sha256) const = 0;

  // By ID, which is by images seen.
  virtual absl::StatusOr<std::vector<scheduler::CheckpointPtr>> ListCheckpoints(absl::string_view job) const = 0;
  // By ID.
  virtual absl::StatusOr<std::vector<scheduler::ArtifactRecord>> ListArtifacts(absl::string_view job) const = 0;

  // From revision `from` on, oldest first, at most `limit`; of one resource (`jobs/{job}`) unless it is empty.
  virtual absl::StatusOr<std::vector<scheduler::EventRecord>> ListEvents(absl::string_view resource, int64_t from,
                                                                         int limit) const = 0;

  // Kept for 7 days, or as long as the job that it names.
  virtual absl::StatusOr<std::optional<scheduler::RequestRecord>> GetRequest(absl::string_view request_id) const = 0;

  // Thins what was full for longest: reads chunks of metric rows that were full before `older_than`, oldest first, and
  // makes one row of every 16 neighbours (docs/storage-format.md), each chunk once. Goes on while `budget` of real time
  // lasts, with one chunk at least. None: none is due. Syncs what CommitThinning wrote before if no Apply has since.
  // From any thread, but in turns with CommitThinning.
  virtual absl::StatusOr<std::vector<ThinnedChunk>> PrepareThinning(absl::Time older_than,
                                                                    absl::Duration budget) const = 0;
  // Writes what PrepareThinning gave last, all or none, and does not wait for the disk: it is durable with the next
  // Apply or PrepareThinning, and after a power cut before that it is due again. From the writing thread; an error is
  // as one of Apply. REQUIRES: no EraseJob and no SupersedeMetrics was applied since that call began; else forget it
  // and prepare anew.
  virtual absl::Status CommitThinning(const std::vector<ThinnedChunk>& chunks) = 0;

  // Calls `visit` for every row after `after`, in order, until it returns false. No rows if there is no such job.
  virtual absl::Status ReadMetrics(absl::string_view job, MetricPosition after,
                                   absl::FunctionRef<bool(const MetricRow&)> visit) const = 0;
  // Calls `visit` for every row with first_images <= images_seen <= last_images, in order. Reads little else, since the
  // rows of an attempt are reported by position.
  virtual absl::Status ReadMetricsBetween(absl::string_view job, int64_t first_images, int64_t last_images,
                                          absl::FunctionRef<void(const MetricRow&)> visit) const = 0;

  virtual StoreHealth Health() const = 0;
};

}  // namespace p2::store
