// Carries what one rank says (events, artifacts, its log) into the spool. Used while the rank runs, and again for what
// a dead agent left unread.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "p2/trainer/v1/pipes.pb.h"
#include "p2/v1/worker_service.pb.h"
#include "worker/agent/journal.h"
#include "worker/agent/spool.h"

namespace p2::agent {

struct AttemptKey {
  std::string job;
  int64_t epoch = 0;
  int32_t attempt = 0;
};

inline constexpr int64_t kMaxArtifactBytes = int64_t{32} << 20;
inline constexpr size_t kArtifactChunkBytes = size_t{256} << 10;
inline constexpr size_t kLogChunkBytes = size_t{64} << 10;

// Confined.
class RankRelay {
 public:
  // `from`: the rank, and how far it was relayed before.
  RankRelay(AttemptKey key, std::string attempt_dir, const JournalRank& from, Spool& spool);

  // Spools `event` unless it is a Progress, was relayed before, or the spool has no room for metrics; an artifact's
  // bytes come before its event. True if it must be synced at once (a checkpoint, the end of the rank).
  bool Relay(const p2::trainer::v1::TrainerEvent& event);
  // Spools new bytes of the log, cut at line ends where possible; `final`: all that is left, else at most 1 MiB. Waits
  // while the spool has no room.
  void TailLog(bool final);
  // Last whole lines of the log, at most `max_bytes`.
  std::string LogTail(int64_t max_bytes) const;

  uint64_t event_sequence() const { return event_sequence_; }
  int64_t log_offset() const { return log_offset_; }

 private:
  p2::v1::SpoolRecord NewRecord() const;
  // INVALID_ARGUMENT, NOT_FOUND, RESOURCE_EXHAUSTED: why it cannot be kept.
  absl::Status SpoolArtifact(const p2::trainer::v1::ArtifactWritten& artifact);

  const AttemptKey key_;
  const std::string attempt_dir_;
  const int32_t rank_;
  Spool& spool_;
  uint64_t event_sequence_;
  int64_t log_offset_;
};

}  // namespace p2::agent
