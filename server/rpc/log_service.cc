#include "server/rpc/log_service.h"

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "server/rpc/log_reader.h"

namespace p2::rpc {
namespace {

// A message ends with the line that reaches it: what a stream holds while a slow client reads.
constexpr int64_t kMessageBytes = 64 * 1024;

// Proto strings are UTF-8; whatever else a rank wrote is shown as '?'.
std::string CleanLine(absl::string_view line) {
  std::string clean;
  clean.reserve(line.size());
  for (size_t i = 0; i < line.size();) {
    const auto byte = static_cast<unsigned char>(line[i]);
    const size_t length = byte < 0x80                   ? 1
                          : byte >= 0xC2 && byte < 0xE0 ? 2
                          : byte >= 0xE0 && byte < 0xF0 ? 3
                          : byte >= 0xF0 && byte < 0xF5 ? 4
                                                        : 0;
    const absl::string_view piece = line.substr(i, length);
    bool good = length > 0 && piece.size() == length;
    for (size_t k = 1; good && k < length; ++k) good = (static_cast<unsigned char>(piece[k]) & 0xC0) == 0x80;
    // Overlong forms, surrogates and values above U+10FFFF.
    if (good && length == 3)
      good = !(byte == 0xE0 && static_cast<unsigned char>(piece[1]) < 0xA0) &&
             !(byte == 0xED && static_cast<unsigned char>(piece[1]) >= 0xA0);
    if (good && length == 4)
      good = !(byte == 0xF0 && static_cast<unsigned char>(piece[1]) < 0x90) &&
             !(byte == 0xF4 && static_cast<unsigned char>(piece[1]) >= 0x90);
    if (good)
      clean.append(piece.data(), piece.size());
    else
      clean.push_back('?');
    i += good ? length : 1;
  }
  return clean;
}

// Lines of the job's logs, round by round: what is there of each, and once more when something was stored.
class LogSource : public StreamSource {
 public:
  LogSource(const ServiceContext& context, std::string job, p2::v1::ReadLogsRequest request, PushStreams::Wake wake)
      : context_(context),
        job_(std::move(job)),
        request_(std::move(request)),
        activity_(context.coordinator.watches().WatchActivity(job_, std::move(wake))) {}

  absl::StatusOr<std::optional<grpc::ByteBuffer>> Next() override {
    p2::v1::ReadLogsResponse message;
    for (bool looked = false;; looked = true) {
      int64_t bytes = 0;
      while (!round_.empty() && bytes < kMessageBytes) {
        P2_RETURN_IF_ERROR(Read(round_.front(), message, bytes));
        if (bytes < kMessageBytes) round_.pop_front();
      }
      if (message.entries_size() > 0) return ToBytes(message);
      if (looked || at_end_) return std::nullopt;
      P2_RETURN_IF_ERROR(BeginRound());
    }
  }
  bool AtEnd() const override { return at_end_; }

 private:
  absl::Status BeginRound() {
    // The job's state is read before its logs: once it has ended, what is there is all.
    P2_ASSIGN_OR_RETURN(const scheduler::JobPtr job, context_.FindJob(ResourceName(kJobs, job_)));
    at_end_ = scheduler::IsTerminal(job->state) || !request_.follow();
    P2_ASSIGN_OR_RETURN(const std::vector<store::LogFile> logs, context_.blobs.ListLogs(job_));
    newest_ = logs.empty() ? 0 : logs.back().attempt;
    for (const store::LogFile& log : logs) {
      const bool of_attempt = request_.attempt() == -1 || log.attempt == request_.attempt() ||
                              (request_.attempt() == 0 && log.attempt == newest_);
      if (!of_attempt || (request_.has_rank() && request_.rank() != log.rank)) continue;
      const auto [found, added] =
          readers_.try_emplace({log.attempt, log.rank}, context_.blobs, job_, log.attempt, log.rank);
      if (added && first_round_) P2_RETURN_IF_ERROR(found->second.SeekToTail(request_.tail_lines()));
      round_.push_back(&found->second);
    }
    first_round_ = false;
    return absl::OkStatus();
  }

  // Goes on with the log until the message is long enough.
  absl::Status Read(LogReader* log, p2::v1::ReadLogsResponse& message, int64_t& bytes) const {
    const bool complete = at_end_ || log->attempt() < newest_;
    return log->Read(complete, [&](absl::string_view line, int64_t offset) {
      p2::v1::LogEntry* entry = message.add_entries();
      entry->set_attempt(log->attempt());
      entry->set_rank(log->rank());
      entry->set_line(CleanLine(line));
      entry->set_offset(offset);
      bytes += static_cast<int64_t>(line.size()) + 32;
      return bytes < kMessageBytes;
    });
  }

  const ServiceContext& context_;
  const std::string job_;
  const p2::v1::ReadLogsRequest request_;
  const std::shared_ptr<const std::function<void()>> activity_;
  std::map<std::pair<int, int>, LogReader> readers_;  // By attempt and rank.
  std::deque<LogReader*> round_;                      // Of readers_: those that this round has yet to read.
  int newest_ = 0;                                    // Attempt: only its logs grow.
  bool first_round_ = true;
  bool at_end_ = false;  // With this round all is said.
};

}  // namespace

PushStreams::Opened LogService::Read(const p2::v1::ReadLogsRequest& request, PushStreams::Wake wake) const {
  std::vector<FieldViolation> violations;
  if (request.attempt() < -1) violations.emplace_back("attempt", "must be a number from 1, 0 (newest) or -1 (all)");
  if (request.tail_lines() < 0) violations.emplace_back("tail_lines", "is negative");
  if (request.has_rank() && request.rank() < 0) violations.emplace_back("rank", "is negative");
  P2_RETURN_IF_ERROR(BadRequestError(violations));
  P2_ASSIGN_OR_RETURN(const scheduler::JobPtr job, context_.FindJob(request.job()));
  if (request.attempt() > job->attempt_count) {
    return BadRequestError(
        {{"attempt", absl::StrCat("is ", request.attempt(), ", but the job has made ", job->attempt_count)}});
  }
  if (request.has_rank() && request.rank() >= job->needs->devices) {
    return BadRequestError(
        {{"rank", absl::StrCat("is ", request.rank(), ", but the job has the ranks 0 to ", job->needs->devices - 1)}});
  }
  return std::make_unique<LogSource>(context_, job->id, request, std::move(wake));
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* LogService::ReadLogs(grpc::CallbackServerContext*,
                                                                 const grpc::ByteBuffer* request) {
  return context_.readers.Start<p2::v1::ReadLogsRequest>(
      *request, [this](const auto& parsed, auto wake) { return Read(parsed, std::move(wake)); });
}

}  // namespace p2::rpc
