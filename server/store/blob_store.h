// Files that p2d keeps for jobs, beside the database:
//   logs/{job}/attempt-{n}/rank-{r}.log    what each rank wrote, byte for byte
//   artifacts/{job}/{file}                 images, plots; `{file}.part` while incomplete
// IDs and file names are checked before they become a path: nothing outside the directory can be named.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

namespace p2::store {

inline constexpr int64_t kMaxArtifactBytes = int64_t{32} << 20;

struct LogFile {
  int attempt = 0;
  int rank = 0;
  int64_t size_bytes = 0;
};

// One piece of an artifact. `size_bytes` and `sha256` (hex) are the whole file's, the same in every piece.
struct ArtifactPiece {
  absl::string_view job;
  absl::string_view file_name;
  int64_t offset = 0;
  absl::string_view data;
  int64_t size_bytes = 0;
  absl::string_view sha256;
};

// Thread-safe. Errors of all methods: INVALID_ARGUMENT (an ID, name, offset or size that cannot be), INTERNAL or
// RESOURCE_EXHAUSTED (the file system).
class BlobStore {
 public:
  // `directory` is made if missing.
  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(const std::string& directory);

  // Writes at `offset`; writing the same bytes again changes nothing.
  absl::Status WriteLog(absl::string_view job, int attempt, int rank, int64_t offset, absl::string_view data);
  // By attempt, then rank; empty if the job has none.
  absl::StatusOr<std::vector<LogFile>> ListLogs(absl::string_view job) const;
  // At most `max_bytes` from `offset` on; empty at the end. NOT_FOUND if there is no such log.
  absl::StatusOr<std::string> ReadLog(absl::string_view job, int attempt, int rank, int64_t offset,
                                      int64_t max_bytes) const;

  // Writes a piece; true once the file is complete, verified, durable and under its final name. Pieces may come again,
  // also after completion. A newer file of the same name replaces the older. DATA_LOSS if the whole does not match its
  // digest: the pieces are discarded.
  absl::StatusOr<bool> WriteArtifact(const ArtifactPiece& piece);
  // At most `max_bytes` from `offset` on; empty at the end. NOT_FOUND if there is no such artifact.
  absl::StatusOr<std::string> ReadArtifact(absl::string_view job, absl::string_view file_name, int64_t offset,
                                           int64_t max_bytes) const;

  // Returns when everything written before the call is durable. Call it before acknowledging.
  absl::Status Sync();

  // Removes the job's logs and artifacts. Idempotent.
  absl::Status DeleteJob(absl::string_view job);

 private:
  explicit BlobStore(std::string directory) : directory_(std::move(directory)) {}

  absl::Status WriteAt(const std::string& path, int64_t offset, absl::string_view data, bool truncate);

  // Constant after construction.
  const std::string directory_;

  absl::Mutex mutex_;
  // Written since the last Sync: files, and the directories that got new entries.
  std::set<std::string> dirty_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace p2::store
