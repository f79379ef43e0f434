#include "server/rpc/event_service.h"

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "server/rpc/convert.h"
#include "server/rpc/message_bytes.h"
#include "server/rpc/page_token.h"
#include "server/rpc/unary_call.h"
#include "server/rpc/validation.h"

namespace p2::rpc {
namespace {

constexpr int kMaxLookedAt = 100'000;
// Read from the store at once: an open stream holds no more of them.
constexpr int kReadAtOnce = 100;

// Old events from the store, then new ones: the watch of those begins when little is left, and before the rest is read.
class EventSource : public StreamSource {
 public:
  EventSource(const ServiceContext& context, const p2::v1::FollowEventsRequest& request, PushStreams::Wake wake)
      : context_(context),
        resource_(request.resource()),
        wake_(std::move(wake)),
        next_(request.start_revision()),
        stored_(request.start_revision() != 0) {}

  absl::Status Watch() {
    P2_ASSIGN_OR_RETURN(watch_, context_.coordinator.watches().WatchEvents(resource_, 0));
    watch_->OnReady(wake_);
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<grpc::ByteBuffer>> Next() override {
    while (true) {
      for (; !read_.empty(); read_.pop_front()) {
        if (read_.front().revision >= next_) return Message(read_.front());
      }
      if (stored_) {
        P2_RETURN_IF_ERROR(Read());
        continue;
      }
      P2_ASSIGN_OR_RETURN(const std::optional<coordinator::EventChange> change, watch_->Next(absl::ZeroDuration()));
      if (!change.has_value()) return std::nullopt;
      if (change->event.revision >= next_) return Message(change->event);  // Else it came from the store.
    }
  }

 private:
  absl::Status Read() {
    P2_ASSIGN_OR_RETURN(const std::vector<scheduler::EventRecord> events,
                        context_.store.ListEvents(resource_, next_, kReadAtOnce));
    read_.assign(events.begin(), events.end());
    const bool rest = events.size() < static_cast<size_t>(kReadAtOnce);
    stored_ = !rest || watch_ == nullptr;
    if (rest && watch_ == nullptr) return Watch();
    if (!rest) watch_.reset();
    return absl::OkStatus();
  }

  grpc::ByteBuffer Message(const scheduler::EventRecord& event) {
    p2::v1::FollowEventsResponse message;
    *message.mutable_event() = ToProto(event);
    next_ = event.revision + 1;
    return ToBytes(message);
  }

  const ServiceContext& context_;
  const std::string resource_;
  const PushStreams::Wake wake_;
  int64_t next_;  // Revisions below it are sent, or not wanted.
  bool stored_;   // There may be more in the store than read_.
  std::deque<scheduler::EventRecord> read_;
  std::shared_ptr<coordinator::EventWatch> watch_;
};

}  // namespace

absl::StatusOr<p2::v1::ListEventsResponse> EventService::List(const p2::v1::ListEventsRequest& request) const {
  P2_ASSIGN_OR_RETURN(const int page_size, PageSize(request.page_size(), 100));
  const std::string list =
      absl::StrCat("events?", request.resource(), request.audit() ? "&audit&" : "&", request.actor());
  P2_ASSIGN_OR_RETURN(int64_t from, DecodePageNumber(list, request.page_token(), 0));
  const auto wanted = [&](const scheduler::EventRecord& event) {
    return (!request.audit() || absl::StartsWith(event.actor, "user:")) &&
           (request.actor().empty() || event.actor == request.actor());
  };
  p2::v1::ListEventsResponse response;
  size_t bytes = 0;
  for (int looked_at = 0;;) {
    P2_ASSIGN_OR_RETURN(const std::vector<scheduler::EventRecord> events,
                        context_.store.ListEvents(request.resource(), from, page_size + 1));
    if (events.empty()) return response;
    for (const scheduler::EventRecord& event : events) {
      const bool full = response.events_size() == page_size || bytes >= kMaxPageBytes;
      if (full || ++looked_at > kMaxLookedAt) {  // A page of rare events ends early.
        response.set_next_page_token(EncodePageToken(list, absl::StrCat(event.revision)));
        return response;
      }
      from = event.revision + 1;
      if (!wanted(event)) continue;
      *response.add_events() = ToProto(event);
      bytes += response.events(response.events_size() - 1).ByteSizeLong();
    }
  }
}

PushStreams::Opened EventService::Follow(const p2::v1::FollowEventsRequest& request, PushStreams::Wake wake) const {
  if (request.start_revision() < 0) return BadRequestError({{"start_revision", "is negative"}});
  auto source = std::make_unique<EventSource>(context_, request, std::move(wake));
  // New ones are not to be missed, from now on.
  if (request.start_revision() == 0) P2_RETURN_IF_ERROR(source->Watch());
  return source;
}

grpc::ServerUnaryReactor* EventService::ListEvents(grpc::CallbackServerContext* call,
                                                   const p2::v1::ListEventsRequest* request,
                                                   p2::v1::ListEventsResponse* response) {
  return Reply(call, response, List(*request));
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* EventService::FollowEvents(grpc::CallbackServerContext*,
                                                                       const grpc::ByteBuffer* request) {
  return context_.streams.Start<p2::v1::FollowEventsRequest>(
      *request, [this](const auto& parsed, auto wake) { return Follow(parsed, std::move(wake)); });
}

}  // namespace p2::rpc
