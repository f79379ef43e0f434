#include "server/rpc/log_service.h"

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "server/rpc/log_reader.h"

namespace p2::rpc {
namespace {

constexpr int64_t kMessageBytes = 256 * 1024;

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

// Collects lines into messages of a comfortable size.
class Sender {
 public:
  explicit Sender(grpc::ServerWriter<p2::v1::ReadLogsResponse>& writer) : writer_(writer) {}

  bool Add(int attempt, int rank, absl::string_view line, int64_t offset) {
    p2::v1::LogEntry* entry = message_.add_entries();
    entry->set_attempt(attempt);
    entry->set_rank(rank);
    entry->set_line(CleanLine(line));
    entry->set_offset(offset);
    bytes_ += static_cast<int64_t>(line.size()) + 32;
    return bytes_ < kMessageBytes || Flush();
  }

  // False once the client is gone.
  bool Flush() {
    if (message_.entries_size() > 0) alive_ = alive_ && writer_.Write(message_);
    message_.Clear();
    bytes_ = 0;
    return alive_;
  }

 private:
  grpc::ServerWriter<p2::v1::ReadLogsResponse>& writer_;
  p2::v1::ReadLogsResponse message_;
  int64_t bytes_ = 0;
  bool alive_ = true;
};

}  // namespace

absl::Status LogService::Send(const grpc::ServerContext& call, const p2::v1::ReadLogsRequest& request,
                              grpc::ServerWriter<p2::v1::ReadLogsResponse>& writer) const {
  std::vector<FieldViolation> violations;
  if (request.attempt() < -1) violations.emplace_back("attempt", "must be a number from 1, 0 (newest) or -1 (all)");
  if (request.tail_lines() < 0) violations.emplace_back("tail_lines", "is negative");
  if (request.has_rank() && request.rank() < 0) violations.emplace_back("rank", "is negative");
  P2_RETURN_IF_ERROR(BadRequestError(violations));
  P2_ASSIGN_OR_RETURN(const scheduler::JobPtr first_look, context_.FindJob(request.job()));
  if (request.attempt() > first_look->attempt_count) {
    return BadRequestError(
        {{"attempt", absl::StrCat("is ", request.attempt(), ", but the job has made ", first_look->attempt_count)}});
  }
  if (request.has_rank() && request.rank() >= first_look->needs->devices) {
    return BadRequestError({{"rank", absl::StrCat("is ", request.rank(), ", but the job has the ranks 0 to ",
                                                  first_look->needs->devices - 1)}});
  }
  const std::string id = first_look->id;
  std::map<std::pair<int, int>, LogReader> readers;
  Sender sender(writer);
  int64_t activity = 0;
  for (bool first_round = true; !context_.Ended(call); first_round = false) {
    // The job's state is read before its logs: once it has ended, what is there is all.
    P2_ASSIGN_OR_RETURN(const scheduler::JobPtr job, context_.FindJob(request.job()));
    const bool ended = scheduler::IsTerminal(job->state);
    P2_ASSIGN_OR_RETURN(const std::vector<store::LogFile> logs, context_.blobs.ListLogs(id));
    const int newest = logs.empty() ? 0 : logs.back().attempt;
    for (const store::LogFile& log : logs) {
      const bool of_attempt = request.attempt() == -1 || log.attempt == request.attempt() ||
                              (request.attempt() == 0 && log.attempt == newest);
      if (!of_attempt || (request.has_rank() && request.rank() != log.rank)) continue;
      const auto [found, added] =
          readers.try_emplace({log.attempt, log.rank}, context_.blobs, id, log.attempt, log.rank);
      LogReader& reader = found->second;
      if (added && first_round) P2_RETURN_IF_ERROR(reader.SeekToTail(request.tail_lines()));
      const bool complete = ended || !request.follow() || log.attempt < newest;
      bool alive = true;
      P2_RETURN_IF_ERROR(reader.Read(complete, [&](absl::string_view line, int64_t offset) {
        alive = sender.Add(log.attempt, log.rank, line, offset);
        return alive;
      }));
      if (!alive) return absl::CancelledError("the client is gone");
    }
    if (!sender.Flush()) return absl::CancelledError("the client is gone");
    if (ended || !request.follow()) return absl::OkStatus();
    activity = context_.coordinator.watches().AwaitActivity(id, activity, kStreamPoll);
  }
  return context_.EndStatus(call);
}

grpc::Status LogService::ReadLogs(grpc::ServerContext* call, const p2::v1::ReadLogsRequest* request,
                                  grpc::ServerWriter<p2::v1::ReadLogsResponse>* writer) {
  return ToGrpcStatus(Send(*call, *request, *writer));
}

}  // namespace p2::rpc
