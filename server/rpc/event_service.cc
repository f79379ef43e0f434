#include "server/rpc/event_service.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "server/rpc/page_token.h"
#include "server/rpc/unary_call.h"
#include "server/rpc/validation.h"

namespace p2::rpc {
namespace {

constexpr int kMaxLookedAt = 100'000;

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

absl::Status EventService::Follow(const grpc::ServerContext& call, const p2::v1::FollowEventsRequest& request,
                                  grpc::ServerWriter<p2::v1::FollowEventsResponse>& writer) const {
  if (request.start_revision() < 0) return BadRequestError({{"start_revision", "is negative"}});
  int64_t next = request.start_revision();
  const auto send = [&](const scheduler::EventRecord& event) -> absl::Status {
    if (event.revision < next) return absl::OkStatus();  // Both in the store and in the watch.
    p2::v1::FollowEventsResponse message;
    *message.mutable_event() = ToProto(event);
    next = event.revision + 1;
    return writer.Write(message) ? absl::OkStatus() : absl::CancelledError("the client is gone");
  };
  // Old events come from the store; the watch of new ones begins when little is left, and before the rest is read.
  std::shared_ptr<coordinator::EventWatch> watch;
  for (bool caught_up = request.start_revision() == 0; watch == nullptr && !context_.Ended(call);) {
    if (caught_up) {
      P2_ASSIGN_OR_RETURN(watch, context_.coordinator.watches().WatchEvents(request.resource(), 0));
    }
    if (request.start_revision() == 0) break;
    P2_ASSIGN_OR_RETURN(const std::vector<scheduler::EventRecord> events,
                        context_.store.ListEvents(request.resource(), next, kMaxPageSize));
    for (const scheduler::EventRecord& event : events) P2_RETURN_IF_ERROR(send(event));
    if (watch != nullptr && events.size() == kMaxPageSize) watch.reset();
    caught_up = events.size() < kMaxPageSize;
  }
  while (!context_.Ended(call)) {
    P2_ASSIGN_OR_RETURN(const std::optional<coordinator::EventChange> change, watch->Next(kStreamPoll));
    if (change.has_value()) P2_RETURN_IF_ERROR(send(change->event));
  }
  return context_.EndStatus(call);
}

grpc::ServerUnaryReactor* EventService::ListEvents(grpc::CallbackServerContext* call,
                                                   const p2::v1::ListEventsRequest* request,
                                                   p2::v1::ListEventsResponse* response) {
  return Reply(call, response, List(*request));
}

grpc::Status EventService::FollowEvents(grpc::ServerContext* call, const p2::v1::FollowEventsRequest* request,
                                        grpc::ServerWriter<p2::v1::FollowEventsResponse>* writer) {
  return ToGrpcStatus(Follow(*call, *request, *writer));
}

}  // namespace p2::rpc
