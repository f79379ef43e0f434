// Records into shards, each closed behind the next; private to common/image.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/image/partial.h"
#include "common/image/shard.h"

namespace p2::image {

// Cuts records into shards. A full one is synced, read back, renamed and noted in partial.json by a thread, while the
// next is being filled: none of that keeps the decoding threads waiting. Confined to one thread.
class ShardSet {
 public:
  // `shape`: of the records; its first and count are not read. `on_kept`: called by that thread when a shard was noted.
  ShardSet(std::string directory, ShardHeader shape, uint64_t records_per_shard, std::function<void()> on_kept);

  // After what `kept` describes, which lies there.
  void Begin(const Partial& kept);
  // `so_far`: the state of the work with this record, for partial.json if it fills its shard; its shards are not read.
  // Errors of closing a shard may come one shard late.
  absl::Status Append(absl::Span<const uint8_t> record, const Partial& so_far);
  // Until the shard that is being closed is complete and noted; its error.
  absl::Status Wait();
  // What the next prepare would go on after. REQUIRES: Wait was called after the last Append.
  const Partial& kept() const { return kept_; }
  // Closes the last one, too; all shards.
  absl::StatusOr<std::vector<ShardInfo>> Finish();

 private:
  // Constant after construction.
  const std::string directory_;
  const uint64_t records_per_shard_;
  const std::function<void()> on_kept_;

  ShardHeader header_;
  size_t opened_ = 0;
  std::unique_ptr<ShardWriter> writer_;
  Partial kept_;                       // The closing thread's until Wait.
  std::future<absl::Status> closing_;  // Last: its end waits for the thread.
};

}  // namespace p2::image
