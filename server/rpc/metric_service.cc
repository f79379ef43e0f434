#include "server/rpc/metric_service.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/resource_name.h"
#include "common/rpc/grpc_status.h"
#include "common/status_macros.h"
#include "server/rpc/convert.h"
#include "server/rpc/page_token.h"
#include "server/rpc/unary_call.h"
#include "server/store/metric_thinning.h"

namespace p2::rpc {
namespace {

constexpr int kMaxPoints = 100'000;
// Below the 4 MiB that a gRPC client takes.
constexpr size_t kMaxResponseBytes = 3'900'000;
// Rows read at once for a stream, so that no snapshot of the store is held while a slow client reads.
constexpr size_t kStreamBatch = 500;

std::string CursorList(absl::string_view job) { return absl::StrCat("metrics?", job); }

absl::StatusOr<store::MetricPosition> ParseCursor(absl::string_view job, absl::string_view cursor) {
  P2_ASSIGN_OR_RETURN(const std::string text, DecodePageToken(CursorList(job), cursor));
  store::MetricPosition position;
  if (text.empty()) return position;
  const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(text, ':');
  if (absl::SimpleAtoi(parts.first, &position.attempt) && absl::SimpleAtoi(parts.second, &position.sequence))
    return position;
  return absl::InvalidArgumentError("cursor is not one that this stream gave");
}

p2::v1::QueryMetricsResponse ToResponse(const store::MetricThinner::Series& series) {
  p2::v1::QueryMetricsResponse response;
  for (const auto& [name, points] : series) {
    p2::v1::MetricSeries* out = response.add_series();
    out->set_metric(name);
    for (const store::SeriesPoint& point : points) {
      p2::v1::MetricPoint* m = out->add_points();
      m->set_images_seen(point.images_seen);
      m->set_step(point.step);
      *m->mutable_time() = ToTimestamp(point.time);
      m->set_value(point.value);
      if (point.count > 1) {
        m->set_count(static_cast<int32_t>(point.count));
        m->set_min(point.min);
        m->set_max(point.max);
      }
      m->set_attempt(point.attempt);
      m->set_superseded(point.superseded);
    }
  }
  return response;
}

// The points that were asked for, thinned further until they fit into one answer.
p2::v1::QueryMetricsResponse FittingResponse(const store::MetricThinner& thinner, size_t max_points) {
  size_t points = max_points == 0 ? thinner.runs() : std::min(max_points, thinner.runs());
  while (true) {
    p2::v1::QueryMetricsResponse response = ToResponse(thinner.Thin(points));
    const size_t bytes = response.ByteSizeLong();
    if (bytes <= kMaxResponseBytes || points <= 1) return response;
    points = std::clamp<size_t>(points * kMaxResponseBytes / bytes * 9 / 10, 1, points - 1);
  }
}

}  // namespace

absl::StatusOr<p2::v1::QueryMetricsResponse> MetricService::Query(const p2::v1::QueryMetricsRequest& request) const {
  P2_ASSIGN_OR_RETURN(const scheduler::JobPtr job, context_.FindJob(request.job()));
  std::vector<FieldViolation> violations;
  if (request.max_points() < 0 || request.max_points() > kMaxPoints) {
    violations.emplace_back("max_points", absl::StrCat("is ", request.max_points(), "; must be 0 to ", kMaxPoints));
  }
  if (request.from_images() < 0) violations.emplace_back("from_images", "is negative");
  if (request.to_images() < 0 || (request.to_images() > 0 && request.to_images() < request.from_images())) {
    violations.emplace_back("to_images", absl::StrCat("is ", request.to_images(), ", below from_images"));
  }
  P2_RETURN_IF_ERROR(BadRequestError(violations));

  store::MetricThinner thinner({request.metrics().begin(), request.metrics().end()});
  const int64_t last = request.to_images() == 0 ? std::numeric_limits<int64_t>::max() : request.to_images();
  P2_RETURN_IF_ERROR(
      context_.store.ReadMetricsBetween(job->id, request.from_images(), last, [&](const store::MetricRow& row) {
        if (!row.superseded || request.include_superseded()) thinner.Add(row);
      }));
  return FittingResponse(thinner, static_cast<size_t>(request.max_points()));
}

absl::Status MetricService::Stream(const grpc::ServerContext& call, const p2::v1::StreamMetricsRequest& request,
                                   grpc::ServerWriter<p2::v1::StreamMetricsResponse>& writer) const {
  P2_ASSIGN_OR_RETURN(const scheduler::JobPtr first_look, context_.FindJob(request.job()));
  const std::string& id = first_look->id;
  P2_ASSIGN_OR_RETURN(store::MetricPosition position, ParseCursor(id, request.cursor()));
  const std::set<std::string> wanted(request.metrics().begin(), request.metrics().end());
  int64_t activity = 0;
  while (!context_.Ended(call)) {
    // The job's state is read before its rows: once it has ended, those that are there are all.
    P2_ASSIGN_OR_RETURN(const scheduler::JobPtr job, context_.FindJob(request.job()));
    std::vector<store::MetricRow> rows;
    P2_RETURN_IF_ERROR(context_.store.ReadMetrics(id, position, [&](const store::MetricRow& row) {
      rows.push_back(row);
      return rows.size() < kStreamBatch;
    }));
    for (const store::MetricRow& row : rows) {
      position = {.attempt = row.attempt, .sequence = row.sequence};
      if (row.superseded) continue;
      p2::v1::StreamMetricsResponse message;
      message.set_images_seen(row.images_seen);
      message.set_step(row.step);
      *message.mutable_time() = ToTimestamp(row.time);
      message.set_attempt(row.attempt);
      for (const auto& [name, value] : row.values) {
        if (wanted.empty() || wanted.count(name) > 0) (*message.mutable_values())[name] = value.mean();
      }
      message.set_cursor(EncodePageToken(CursorList(id), absl::StrCat(position.attempt, ":", position.sequence)));
      if (!message.values().empty() && !writer.Write(message)) return absl::CancelledError("the client is gone");
    }
    if (rows.size() == kStreamBatch) continue;
    if (scheduler::IsTerminal(job->state)) return absl::OkStatus();
    activity = context_.coordinator.watches().AwaitActivity(id, activity, kStreamPoll);
  }
  return context_.EndStatus(call);
}

grpc::ServerUnaryReactor* MetricService::QueryMetrics(grpc::CallbackServerContext* call,
                                                      const p2::v1::QueryMetricsRequest* request,
                                                      p2::v1::QueryMetricsResponse* response) {
  return Reply(call, response, Query(*request));
}

grpc::Status MetricService::StreamMetrics(grpc::ServerContext* call, const p2::v1::StreamMetricsRequest* request,
                                          grpc::ServerWriter<p2::v1::StreamMetricsResponse>* writer) {
  return ToGrpcStatus(Stream(*call, *request, *writer));
}

}  // namespace p2::rpc
