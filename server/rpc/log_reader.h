// Lines out of the logs that the blob store keeps, from where the last read ended.
#pragma once

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "server/store/blob_store.h"

namespace p2::rpc {

// A longer line is cut there, so that no reader needs more memory.
inline constexpr int64_t kMaxLineBytes = 64 * 1024;
inline constexpr int64_t kMaxTailBytes = int64_t{1} << 20;

// One rank's log. Thread-compatible; the store must outlive it.
class LogReader {
 public:
  LogReader(const store::BlobStore& blobs, std::string job, int attempt, int rank)
      : blobs_(blobs), job_(std::move(job)), attempt_(attempt), rank_(rank) {}

  // Moves to the last `lines` (0: all) lines, at most kMaxTailBytes before the end.
  absl::Status SeekToTail(int64_t lines);

  // Calls `visit(line, offset of its end)` for each whole line that is there, and with `final` for an unfinished last
  // one too. Stops when it returns false.
  using Visit = absl::FunctionRef<bool(absl::string_view line, int64_t end_offset)>;
  absl::Status Read(bool final, Visit visit);

  int attempt() const { return attempt_; }
  int rank() const { return rank_; }

 private:
  const store::BlobStore& blobs_;
  const std::string job_;
  const int attempt_, rank_;
  int64_t offset_ = 0;  // Everything before it was visited or skipped.
};

}  // namespace p2::rpc
