#pragma once

#include "p2/v1/event_service.grpc.pb.h"
#include "server/rpc/service_context.h"

namespace p2::rpc {

using EventServiceBase = p2::v1::EventService::WithCallbackMethod_ListEvents<
    p2::v1::EventService::WithRawCallbackMethod_FollowEvents<p2::v1::EventService::Service>>;

// Thread-safe.
class EventService final : public EventServiceBase {
 public:
  explicit EventService(ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* ListEvents(grpc::CallbackServerContext* call, const p2::v1::ListEventsRequest* request,
                                       p2::v1::ListEventsResponse* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* FollowEvents(grpc::CallbackServerContext* call,
                                                           const grpc::ByteBuffer* request) override;

 private:
  absl::StatusOr<p2::v1::ListEventsResponse> List(const p2::v1::ListEventsRequest& request) const;
  PushStreams::Opened Follow(const p2::v1::FollowEventsRequest& request, PushStreams::Wake wake) const;

  ServiceContext& context_;
};

}  // namespace p2::rpc
