// The worker's spool: what must reach the coordinator, in order and exactly once, kept in files until it says that it
// has it. Segments `<first sequence>.spool` hold frames: u32 length, u32 CRC-32C of the bytes, the bytes of a
// SpoolRecord (little-endian). A frame that runs past the end of the last segment is a torn write and is cut off; any
// other damage is refused, never skipped. Only synced records are readable, so what was sent can not be lost here by a
// power cut, and sequences never repeat.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "p2/v1/worker_service.pb.h"
#include "worker/agent/files.h"

namespace p2::agent {

// Confined.
class Spool {
 public:
  struct Options {
    std::string dir;
    // Limit of unacknowledged bytes (room()).
    int64_t limit_bytes = int64_t{256} << 20;
    // A new file is begun after this many.
    int64_t segment_bytes = int64_t{8} << 20;
  };
  // What may still be appended as the limit comes near. The caller keeps to it; Append itself takes everything, for a
  // state change or a checkpoint is never dropped.
  enum class Room { kAll, kNoLogsOrArtifacts, kStatesOnly };

  // Creates `dir` or recovers what is in it. DATA_LOSS with what to do if a synced part is damaged.
  static absl::StatusOr<std::unique_ptr<Spool>> Open(Options options);

  // Identity of the spool: sequences count within it.
  const std::string& id() const { return id_; }
  // Gives `record` the next sequence and buffers it.
  uint64_t Append(p2::v1::SpoolRecord record);
  // Writes and syncs what is buffered. RESOURCE_EXHAUSTED: the disk is full; the buffer is kept, try again later. Any
  // other error: the files' state is unknown, and the process must end (a failed sync is never retried).
  absl::Status Flush();
  bool dirty() const { return !buffer_.empty(); }

  // Lowest sequence that is kept (or will be, if none is).
  uint64_t first_kept() const { return first_; }
  // Highest sequence appended, synced, and acknowledged; 0: none.
  uint64_t last() const { return synced() + pending_.size(); }
  uint64_t synced() const { return first_ + index_.size() - 1; }
  uint64_t acked() const { return acked_; }

  // A synced record. NOT_FOUND if it is not kept any more; DATA_LOSS if its bytes have changed.
  absl::StatusOr<p2::v1::SpoolRecord> Read(uint64_t sequence) const;
  // Every kept record, oldest first.
  absl::Status ForEach(const std::function<void(const p2::v1::SpoolRecord&)>& fn) const;

  // True if Ack(sequence) would delete a segment.
  bool AckDrops(uint64_t sequence) const;
  // The coordinator has everything up to `sequence`. Lower ones than before are ignored. OUT_OF_RANGE if it was never
  // synced here: the coordinator speaks of another spool.
  absl::Status Ack(uint64_t sequence);

  // Bytes not acknowledged yet.
  int64_t unacked_bytes() const;
  Room room() const;

 private:
  struct Segment {
    uint64_t first;
    UniqueFd fd;
    int64_t size;
  };
  struct Entry {
    // Position in its segment's file, of the frame; its length with the header.
    int64_t offset;
    uint32_t size;
  };

  explicit Spool(Options options) : options_(std::move(options)) {}
  std::string PathOf(uint64_t first) const;
  absl::Status Recover(uint64_t first, bool newest);
  absl::Status BeginSegment();
  const Segment& SegmentOf(uint64_t sequence) const;

  const Options options_;
  std::string id_;
  std::deque<Segment> segments_;
  // Of sequences first_, first_ + 1, …
  std::deque<Entry> index_;
  uint64_t first_ = 1;
  uint64_t acked_ = 0;
  int64_t kept_bytes_ = 0;
  int64_t acked_bytes_ = 0;
  // Frames not written yet, and the sizes of each.
  std::string buffer_;
  std::deque<uint32_t> pending_;
};

}  // namespace p2::agent
