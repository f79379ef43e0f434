#include "worker/agent/spool.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uuid/uuid.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "absl/base/internal/endian.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/crc32c.h"
#include "common/failpoint.h"
#include "common/status_macros.h"

namespace p2::agent {
namespace {

constexpr size_t kHeader = 8;
constexpr uint32_t kMaxRecordBytes = uint32_t{8} << 20;

std::string Frame(const std::string& body) {
  std::string frame(kHeader, '\0');
  absl::little_endian::Store32(frame.data(), static_cast<uint32_t>(body.size()));
  absl::little_endian::Store32(frame.data() + 4, Crc32c(body));
  return frame + body;
}

}  // namespace

std::string Spool::PathOf(uint64_t first) const { return absl::StrFormat("%s/%020d.spool", options_.dir, first); }

absl::StatusOr<std::unique_ptr<Spool>> Spool::Open(Options options) {
  std::unique_ptr<Spool> spool(new Spool(std::move(options)));
  const std::string& dir = spool->options_.dir;
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) return absl::InternalError(absl::StrCat("spool ", dir, ": ", error.message()));
  std::vector<uint64_t> firsts;
  for (const auto& entry : std::filesystem::directory_iterator(dir, error)) {
    uint64_t first = 0;
    if (entry.path().extension() == ".spool" && absl::SimpleAtoi(entry.path().stem().string(), &first))
      firsts.push_back(first);
  }
  std::sort(firsts.begin(), firsts.end());

  const std::string id_file = absl::StrCat(dir, "/id");
  absl::StatusOr<std::string> id = ReadFile(id_file, 64);
  if (absl::IsNotFound(id.status()) && firsts.empty()) {
    uuid_t drawn;
    char text[37];
    uuid_generate(drawn);
    uuid_unparse_lower(drawn, text);
    P2_RETURN_IF_ERROR(ReplaceFile(id_file, text, 0600));
    id = std::string(text);
  }
  if (!id.ok())
    return absl::DataLossError(absl::StrCat("the spool has records but no identity (", id.status().message(),
                                            "); move ", dir, " away to start without them"));
  spool->id_ = *std::move(id);
  if (!firsts.empty()) spool->first_ = firsts.front();
  for (const uint64_t first : firsts) P2_RETURN_IF_ERROR(spool->Recover(first, first == firsts.back()));
  spool->acked_ = spool->first_ - 1;
  if (firsts.empty()) P2_RETURN_IF_ERROR(spool->BeginSegment());
  return spool;
}

absl::Status Spool::Recover(uint64_t first, bool newest) {
  const std::string path = PathOf(first);
  const auto damaged = [&](int64_t at, absl::string_view what) {
    return absl::DataLossError(absl::StrCat(path, " is damaged at byte ", at, " (", what, "); move ", options_.dir,
                                            " away to start without its records, which p2d then never sees"));
  };
  if (first != synced() + 1) return damaged(0, absl::StrCat("sequence ", synced() + 1, " was expected"));
  Segment segment{first, UniqueFd(open(path.c_str(), O_RDWR | O_CLOEXEC)), 0};
  if (!segment.fd.ok()) return ErrnoError(path);
  P2_ASSIGN_OR_RETURN(const std::string bytes, ReadFile(path, int64_t{1} << 32));
  size_t at = 0;
  while (at < bytes.size()) {
    const size_t left = bytes.size() - at;
    const uint32_t length = left < kHeader ? 0 : absl::little_endian::Load32(bytes.data() + at);
    const bool zeros = bytes.find_first_not_of('\0', at) == std::string::npos;
    const bool runs_past_end = left < kHeader || (length <= kMaxRecordBytes && left - kHeader < length);
    const absl::string_view body =
        runs_past_end ? absl::string_view() : absl::string_view(bytes).substr(at + kHeader, length);
    const bool valid = !zeros && !runs_past_end && length > 0 && length <= kMaxRecordBytes &&
                       Crc32c(body) == absl::little_endian::Load32(bytes.data() + at + 4);
    if (!valid) {
      const bool last_frame = !runs_past_end && length <= kMaxRecordBytes && left - kHeader == length;
      if (!newest || !(zeros || runs_past_end || last_frame))
        return damaged(static_cast<int64_t>(at), "wrong checksum");
      if (ftruncate(segment.fd.get(), static_cast<off_t>(at)) != 0 || fsync(segment.fd.get()) != 0)
        return ErrnoError(path);
      break;
    }
    index_.push_back({static_cast<int64_t>(at), static_cast<uint32_t>(kHeader + length)});
    at += kHeader + length;
  }
  segment.size = static_cast<int64_t>(at);
  kept_bytes_ += segment.size;
  segments_.push_back(std::move(segment));
  return absl::OkStatus();
}

absl::Status Spool::BeginSegment() {
  const std::string path = PathOf(synced() + 1);
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.ok()) return ErrnoError(path);
  segments_.push_back({synced() + 1, std::move(fd), 0});
  return SyncDirectory(options_.dir);
}

uint64_t Spool::Append(p2::v1::SpoolRecord record) {
  record.set_sequence(last() + 1);
  const std::string frame = Frame(record.SerializeAsString());
  buffer_ += frame;
  pending_.push_back(static_cast<uint32_t>(frame.size()));
  return record.sequence();
}

absl::Status Spool::Flush() {
  if (buffer_.empty()) return absl::OkStatus();
  if (segments_.back().size >= options_.segment_bytes) P2_RETURN_IF_ERROR(BeginSegment());
  Segment& segment = segments_.back();
  const std::string path = PathOf(segment.first);
  P2_RETURN_IF_ERROR(P2_FAILPOINT("spool.before_write"));
  if (lseek(segment.fd.get(), segment.size, SEEK_SET) < 0) return ErrnoError(path);
  if (absl::Status written = WriteAll(segment.fd.get(), path, buffer_); !written.ok()) {
    if (ftruncate(segment.fd.get(), segment.size) != 0) return ErrnoError(path);
    return written;
  }
  // Whatever a sync fails with, also for want of space: it is never tried again.
  if (absl::Status failed = P2_FAILPOINT("spool.before_sync"); !failed.ok())
    return absl::InternalError(failed.message());
  if (fdatasync(segment.fd.get()) != 0) return absl::InternalError(ErrnoError(path).message());
  if (absl::Status failed = P2_FAILPOINT("spool.after_sync"); !failed.ok())
    return absl::InternalError(failed.message());
  for (const uint32_t size : pending_) {
    index_.push_back({segment.size, size});
    segment.size += size;
  }
  kept_bytes_ += static_cast<int64_t>(buffer_.size());
  pending_.clear();
  buffer_.clear();
  return absl::OkStatus();
}

const Spool::Segment& Spool::SegmentOf(uint64_t sequence) const {
  const auto after = std::upper_bound(segments_.begin(), segments_.end(), sequence,
                                      [](uint64_t s, const Segment& segment) { return s < segment.first; });
  return *std::prev(after);
}

absl::StatusOr<p2::v1::SpoolRecord> Spool::Read(uint64_t sequence) const {
  if (sequence < first_ || sequence > synced())
    return absl::NotFoundError(
        absl::StrCat("spool record ", sequence, " is not kept; ", first_, " to ", synced(), " are"));
  const Entry& entry = index_[sequence - first_];
  const Segment& segment = SegmentOf(sequence);
  std::string frame(entry.size, '\0');
  for (size_t done = 0; done < frame.size();) {
    const ssize_t n =
        pread(segment.fd.get(), frame.data() + done, frame.size() - done, entry.offset + static_cast<off_t>(done));
    if (n <= 0) return absl::DataLossError(ErrnoError(PathOf(segment.first)).message());
    done += static_cast<size_t>(n);
  }
  const absl::string_view body = absl::string_view(frame).substr(kHeader);
  p2::v1::SpoolRecord record;
  if (Crc32c(body) != absl::little_endian::Load32(frame.data() + 4) ||
      !record.ParseFromArray(body.data(), static_cast<int>(body.size())))
    return absl::DataLossError(absl::StrCat(PathOf(segment.first), ": record ", sequence, " has changed on disk"));
  return record;
}

absl::Status Spool::ForEach(const std::function<void(const p2::v1::SpoolRecord&)>& fn) const {
  for (uint64_t sequence = first_; sequence <= synced(); ++sequence) {
    P2_ASSIGN_OR_RETURN(const p2::v1::SpoolRecord record, Read(sequence));
    fn(record);
  }
  return absl::OkStatus();
}

bool Spool::AckDrops(uint64_t sequence) const {
  if (sequence > synced()) return false;
  return segments_.size() > 1 ? segments_[1].first <= sequence + 1
                              : sequence == synced() && segments_.back().size >= options_.segment_bytes;
}

absl::Status Spool::Ack(uint64_t sequence) {
  if (sequence <= acked_) return absl::OkStatus();
  if (sequence > synced())
    return absl::OutOfRangeError(absl::StrCat("the coordinator acknowledges record ", sequence, " of spool ", id_,
                                              ", which ends at ", synced(), "; if ", options_.dir,
                                              " is an old copy, move it away and restart"));
  for (uint64_t s = acked_ + 1; s <= sequence; ++s) acked_bytes_ += index_[s - first_].size;
  acked_ = sequence;
  if (segments_.size() == 1 && acked_ == synced() && segments_.back().size >= options_.segment_bytes)
    P2_RETURN_IF_ERROR(BeginSegment());
  while (segments_.size() > 1 && segments_[1].first <= acked_ + 1) {
    const Segment& oldest = segments_.front();
    P2_RETURN_IF_ERROR(P2_FAILPOINT("spool.before_drop"));
    if (unlink(PathOf(oldest.first).c_str()) != 0) return ErrnoError(PathOf(oldest.first));
    index_.erase(index_.begin(), index_.begin() + static_cast<std::ptrdiff_t>(segments_[1].first - oldest.first));
    kept_bytes_ -= oldest.size;
    acked_bytes_ -= oldest.size;
    first_ = segments_[1].first;
    segments_.pop_front();
  }
  return absl::OkStatus();
}

int64_t Spool::unacked_bytes() const { return kept_bytes_ - acked_bytes_ + static_cast<int64_t>(buffer_.size()); }

Spool::Room Spool::room() const {
  if (unacked_bytes() >= options_.limit_bytes) return Room::kStatesOnly;
  return unacked_bytes() >= options_.limit_bytes / 4 * 3 ? Room::kNoLogsOrArtifacts : Room::kAll;
}

}  // namespace p2::agent
