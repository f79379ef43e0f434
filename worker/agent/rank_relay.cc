#include "worker/agent/rank_relay.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/logging.h"
#include "common/sha256.h"
#include "common/status_macros.h"
#include "worker/agent/files.h"

namespace p2::agent {
namespace {

using p2::trainer::v1::TrainerEvent;

constexpr int64_t kTailAtOnce = int64_t{1} << 20;

// Up to `size` bytes of the file from `offset` on; empty if there are none.
std::string ReadPart(const std::string& path, int64_t offset, int64_t size) {
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string part(static_cast<size_t>(size), '\0');
  const ssize_t n = file.ok() ? pread(file.get(), part.data(), part.size(), offset) : 0;
  part.resize(static_cast<size_t>(std::max<ssize_t>(n, 0)));
  return part;
}

}  // namespace

RankRelay::RankRelay(AttemptKey key, std::string attempt_dir, const JournalRank& from, Spool& spool)
    : key_(std::move(key)),
      attempt_dir_(std::move(attempt_dir)),
      rank_(from.rank),
      spool_(spool),
      event_sequence_(from.event_sequence),
      log_offset_(from.log_offset) {}

p2::v1::SpoolRecord RankRelay::NewRecord() const {
  p2::v1::SpoolRecord record;
  record.set_job(key_.job);
  record.set_epoch(key_.epoch);
  record.set_attempt(key_.attempt);
  record.set_rank(rank_);
  return record;
}

bool RankRelay::Relay(const TrainerEvent& event) {
  if (event.sequence() <= event_sequence_) return false;
  event_sequence_ = event.sequence();
  if (event.event_case() == TrainerEvent::kProgress || event.event_case() == TrainerEvent::EVENT_NOT_SET) return false;
  if (event.has_metrics() && spool_.room() == Spool::Room::kStatesOnly) {
    P2_LOG(kError) << "job " << key_.job << ": the spool is full, metrics at " << event.metrics().images_seen()
                   << " images are dropped";
    return false;
  }
  p2::v1::SpoolRecord record = NewRecord();
  *record.mutable_trainer_event() = event;
  if (event.has_artifact()) {
    if (const absl::Status kept = SpoolArtifact(event.artifact()); !kept.ok()) {
      auto* notice = record.mutable_trainer_event()->mutable_notice();
      notice->set_reason("ARTIFACT_DROPPED");
      notice->set_message(std::string(kept.message()));
    }
  }
  spool_.Append(std::move(record));
  return event.has_checkpoint() || event.has_finished() || event.has_started();
}

absl::Status RankRelay::SpoolArtifact(const p2::trainer::v1::ArtifactWritten& artifact) {
  if (!IsFileName(artifact.file_name()))
    return absl::InvalidArgumentError(
        absl::StrCat("artifact \"", absl::CHexEscape(artifact.file_name()), "\" is not a plain file name"));
  if (spool_.room() != Spool::Room::kAll)
    return absl::ResourceExhaustedError(
        absl::StrCat("artifact ", artifact.file_name(), " was dropped: the worker's spool is full"));
  P2_ASSIGN_OR_RETURN(const std::string bytes,
                      ReadBeneath(WorkDir(attempt_dir_), artifact.file_name(), kMaxArtifactBytes));
  const std::string sha256 = Sha256Hex(bytes);
  size_t offset = 0;
  do {
    p2::v1::SpoolRecord record = NewRecord();
    p2::v1::ArtifactChunk& chunk = *record.mutable_artifact();
    chunk.set_file_name(artifact.file_name());
    chunk.set_kind(artifact.kind());
    chunk.set_content_type(artifact.content_type());
    chunk.set_images_seen(artifact.images_seen());
    chunk.set_size_bytes(static_cast<int64_t>(bytes.size()));
    chunk.set_sha256(sha256);
    chunk.set_offset(static_cast<int64_t>(offset));
    chunk.set_data(bytes.substr(offset, kArtifactChunkBytes));
    spool_.Append(std::move(record));
    offset += kArtifactChunkBytes;
  } while (offset < bytes.size());
  return absl::OkStatus();
}

void RankRelay::TailLog(bool final) {
  const std::string path = RankFile(attempt_dir_, rank_, "log");
  const int64_t stop = final ? INT64_MAX : log_offset_ + kTailAtOnce;
  while (log_offset_ < stop && spool_.room() == Spool::Room::kAll) {
    std::string part = ReadPart(path, log_offset_, kLogChunkBytes);
    if (part.empty()) return;
    const size_t line_end = part.rfind('\n');
    if (line_end != std::string::npos)
      part.resize(line_end + 1);
    else if (!final && part.size() < kLogChunkBytes)
      return;  // A line that is still being written.
    p2::v1::SpoolRecord record = NewRecord();
    record.mutable_log()->set_offset(log_offset_);
    log_offset_ += static_cast<int64_t>(part.size());
    record.mutable_log()->set_data(std::move(part));
    spool_.Append(std::move(record));
  }
}

std::string RankRelay::LogTail(int64_t max_bytes) const {
  const std::string path = RankFile(attempt_dir_, rank_, "log");
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return "";
  const int64_t offset = std::max<int64_t>(0, info.st_size - max_bytes);
  std::string tail = ReadPart(path, offset, std::min<int64_t>(max_bytes, info.st_size));
  const size_t line_end = offset > 0 ? tail.find('\n') : std::string::npos;
  return line_end == std::string::npos ? tail : tail.substr(line_end + 1);
}

}  // namespace p2::agent
