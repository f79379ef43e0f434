#pragma once

#include "p2/v1/event_service.grpc.pb.h"
#include "server/rpc/service_context.h"

namespace p2::rpc {

using EventServiceBase = p2::v1::EventService::WithCallbackMethod_ListEvents<p2::v1::EventService::Service>;

// Thread-safe.
class EventService final : public EventServiceBase {
 public:
  explicit EventService(ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* ListEvents(grpc::CallbackServerContext* call, const p2::v1::ListEventsRequest* request,
                                       p2::v1::ListEventsResponse* response) override;
  grpc::Status FollowEvents(grpc::ServerContext* call, const p2::v1::FollowEventsRequest* request,
                            grpc::ServerWriter<p2::v1::FollowEventsResponse>* writer) override;

 private:
  absl::StatusOr<p2::v1::ListEventsResponse> List(const p2::v1::ListEventsRequest& request) const;
  absl::Status Follow(const grpc::ServerContext& call, const p2::v1::FollowEventsRequest& request,
                      grpc::ServerWriter<p2::v1::FollowEventsResponse>& writer) const;

  ServiceContext& context_;
};

}  // namespace p2::rpc
