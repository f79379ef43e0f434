#include "server/rpc/metric_service.h"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
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
// Read at once for a stream, which holds no more of them while a slow client reads, and no snapshot of the store.
constexpr int kStreamRows = 500;
constexpr size_t kStreamBytes = size_t{32} << 10;

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

// Rows behind a position, until the job has ended.
class MetricSource : public StreamSource {
 public:
  MetricSource(const ServiceContext& context, std::string job, std::set<std::string> wanted,
               store::MetricPosition position, PushStreams::Wake wake)
      : context_(context),
        job_(std::move(job)),
        wanted_(std::move(wanted)),
        activity_(context.coordinator.watches().WatchActivity(job_, std::move(wake))),
        position_(position) {}

  absl::StatusOr<std::optional<grpc::ByteBuffer>> Next() override {
    while (messages_.empty() && !at_end_) {
      // The job's state is read before its rows: once it has ended, those that are there are all.
      P2_ASSIGN_OR_RETURN(const scheduler::JobPtr job, context_.FindJob(ResourceName(kJobs, job_)));
      P2_ASSIGN_OR_RETURN(const bool all, Read());
      if (!all) continue;
      at_end_ = scheduler::IsTerminal(job->state);
      break;
    }
    if (messages_.empty()) return std::nullopt;
    grpc::ByteBuffer next = std::move(messages_.front());
    messages_.pop_front();
    return next;
  }
  bool AtEnd() const override { return at_end_; }

 private:
  // False if there may be more.
  absl::StatusOr<bool> Read() {
    int rows = 0;
    size_t bytes = 0;
    bool all = true;
    P2_RETURN_IF_ERROR(context_.store.ReadMetrics(job_, position_, [&](const store::MetricRow& row) {
      position_ = {.attempt = row.attempt, .sequence = row.sequence};
      if (const p2::v1::StreamMetricsResponse message = Message(row); !row.superseded && !message.values().empty()) {
        messages_.push_back(ToBytes(message));
        bytes += messages_.back().Length();
      }
      return all = ++rows < kStreamRows && bytes < kStreamBytes;
    }));
    return all;
  }

  p2::v1::StreamMetricsResponse Message(const store::MetricRow& row) const {
    p2::v1::StreamMetricsResponse message;
    message.set_images_seen(row.images_seen);
    message.set_step(row.step);
    *message.mutable_time() = ToTimestamp(row.time);
    message.set_attempt(row.attempt);
    for (const auto& [name, value] : row.values) {
      if (wanted_.empty() || wanted_.count(name) > 0) (*message.mutable_values())[name] = value.mean();
    }
    message.set_cursor(EncodePageToken(CursorList(job_), absl::StrCat(row.attempt, ":", row.sequence)));
    return message;
  }

  const ServiceContext& context_;
  const std::string job_;
  const std::set<std::string> wanted_;  // Empty: all.
  const std::shared_ptr<const std::function<void()>> activity_;
  store::MetricPosition position_;         // Of the last row that was read.
  std::deque<grpc::ByteBuffer> messages_;  // Read and not yet sent.
  bool at_end_ = false;                    // With messages_ all is said.
};

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

PushStreams::Opened MetricService::Follow(const p2::v1::StreamMetricsRequest& request, PushStreams::Wake wake) const {
  P2_ASSIGN_OR_RETURN(const scheduler::JobPtr job, context_.FindJob(request.job()));
  P2_ASSIGN_OR_RETURN(const store::MetricPosition position, ParseCursor(job->id, request.cursor()));
  return std::make_unique<MetricSource>(context_, job->id,
                                        std::set<std::string>(request.metrics().begin(), request.metrics().end()),
                                        position, std::move(wake));
}

grpc::ServerUnaryReactor* MetricService::QueryMetrics(grpc::CallbackServerContext* call,
                                                      const p2::v1::QueryMetricsRequest* request,
                                                      p2::v1::QueryMetricsResponse* response) {
  return Reply(call, response, Query(*request));
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* MetricService::StreamMetrics(grpc::CallbackServerContext*,
                                                                         const grpc::ByteBuffer* request) {
  return context_.readers.Start<p2::v1::StreamMetricsRequest>(
      *request, [this](const auto& parsed, auto wake) { return Follow(parsed, std::move(wake)); });
}

}  // namespace p2::rpc
