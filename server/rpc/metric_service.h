#pragma once

#include "p2/v1/metric_service.grpc.pb.h"
#include "server/rpc/service_context.h"

namespace p2::rpc {

using MetricServiceBase = p2::v1::MetricService::WithCallbackMethod_QueryMetrics<
    p2::v1::MetricService::WithRawCallbackMethod_StreamMetrics<p2::v1::MetricService::Service>>;

// Thread-safe.
class MetricService final : public MetricServiceBase {
 public:
  explicit MetricService(ServiceContext& context) : context_(context) {}

  grpc::ServerUnaryReactor* QueryMetrics(grpc::CallbackServerContext* call, const p2::v1::QueryMetricsRequest* request,
                                         p2::v1::QueryMetricsResponse* response) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StreamMetrics(grpc::CallbackServerContext* call,
                                                            const grpc::ByteBuffer* request) override;

 private:
  absl::StatusOr<p2::v1::QueryMetricsResponse> Query(const p2::v1::QueryMetricsRequest& request) const;
  PushStreams::Opened Follow(const p2::v1::StreamMetricsRequest& request, PushStreams::Wake wake) const;

  ServiceContext& context_;
};

}  // namespace p2::rpc
