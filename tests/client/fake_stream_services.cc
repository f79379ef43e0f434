// MetricService, LogService and EventService.
#include <algorithm>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "p2/v1/event_service.grpc.pb.h"
#include "p2/v1/log_service.grpc.pb.h"
#include "p2/v1/metric_service.grpc.pb.h"
#include "tests/client/fake_server_impl.h"

namespace p2::testing {
namespace {

using grpc::ServerContext;
using grpc::ServerWriter;
using Step = FakeServer::Impl::Step;

struct MetricFake final : v1::MetricService::Service {
  explicit MetricFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status QueryMetrics(ServerContext*, const v1::QueryMetricsRequest* request,
                            v1::QueryMetricsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      std::map<std::string, v1::MetricSeries> series;
      ++s.metric_queries;
      for (const v1::StreamMetricsResponse& row : s.metrics[request->job()]) {
        if (row.images_seen() < request->from_images() ||
            (request->to_images() > 0 && row.images_seen() > request->to_images()))
          continue;
        for (const auto& [metric, value] : row.values()) {
          const auto& wanted = request->metrics();
          if (!wanted.empty() && std::count(wanted.begin(), wanted.end(), metric) == 0) continue;
          series[metric].set_metric(metric);
          if (request->max_points() > 0 && series[metric].points_size() == request->max_points())
            continue;  // Cut, not thinned.
          v1::MetricPoint& point = *series[metric].add_points();
          point.set_images_seen(row.images_seen());
          point.set_step(row.step());
          point.set_attempt(row.attempt());
          point.set_value(value);
          *point.mutable_time() = row.time();
          if (row.images_seen() > s.metrics_thinned_to) continue;
          point.set_count(16);
          point.set_min(value - 1);
          point.set_max(value + 1);
        }
      }
      for (auto& [metric, points] : series) *response->add_series() = points;
      if (const size_t bytes = response->ByteSizeLong(); bytes > s.max_metric_bytes) {  // As many as fit, as p2d does.
        const int run = static_cast<int>(bytes / s.max_metric_bytes) + 1;
        for (v1::MetricSeries& thinned : *response->mutable_series()) {
          v1::MetricSeries kept;
          for (int last = run - 1; last < thinned.points_size() + run - 1; last += run) {
            v1::MetricPoint& point = *kept.add_points() = thinned.points(std::min(last, thinned.points_size() - 1));
            point.set_count(run * std::max(1, point.count()));
          }
          thinned.mutable_points()->Swap(kept.mutable_points());
        }
      }
      return grpc::Status::OK;
    });
  }
  grpc::Status StreamMetrics(ServerContext* context, const v1::StreamMetricsRequest* request,
                             ServerWriter<v1::StreamMetricsResponse>* writer) override {
    size_t next = request->cursor().empty() ? 0 : std::stoul(request->cursor());
    return impl.Stream(context, [&](FakeState& s) {
      const std::vector<v1::StreamMetricsResponse>& rows = s.metrics[request->job()];
      if (next == rows.size()) return Terminal(s.jobs[request->job()]) ? Step::kEnd : Step::kWait;
      v1::StreamMetricsResponse row = rows[next++];
      row.set_cursor(absl::StrCat(next));
      writer->Write(row);
      return Step::kSent;
    });
  }
  FakeServer::Impl& impl;
};

struct LogFake final : v1::LogService::Service {
  explicit LogFake(FakeServer::Impl& impl) : impl(impl) {}
  grpc::Status ReadLogs(ServerContext* context, const v1::ReadLogsRequest* request,
                        ServerWriter<v1::ReadLogsResponse>* writer) override {
    size_t next = 0;
    return impl.Stream(context, [&](FakeState& s) {
      const std::vector<v1::LogEntry>& lines = s.logs[request->job()];
      if (next == lines.size())
        return !request->follow() || Terminal(s.jobs[request->job()]) ? Step::kEnd : Step::kWait;
      v1::ReadLogsResponse response;
      *response.add_entries() = lines[next++];
      if (!request->has_rank() || request->rank() == response.entries(0).rank()) writer->Write(response);
      return Step::kSent;
    });
  }
  FakeServer::Impl& impl;
};

struct EventFake final : v1::EventService::Service {
  explicit EventFake(FakeServer::Impl& impl) : impl(impl) {}
  static bool Wanted(const v1::Event& event, const std::string& resource) {
    return resource.empty() || event.resource() == resource;
  }
  grpc::Status ListEvents(ServerContext*, const v1::ListEventsRequest* request,
                          v1::ListEventsResponse* response) override {
    return impl.Unary([&](FakeState& s) {
      s.last_list_events = *request;
      for (const v1::Event& event : s.events) {
        const bool people = !request->audit() || absl::StartsWith(event.actor(), "user:");
        const bool by = request->actor().empty() || request->actor() == event.actor();
        if (people && by && Wanted(event, request->resource())) *response->add_events() = event;
      }
      return grpc::Status::OK;
    });
  }
  grpc::Status FollowEvents(ServerContext* context, const v1::FollowEventsRequest* request,
                            ServerWriter<v1::FollowEventsResponse>* writer) override {
    int64_t next = request->start_revision();
    return impl.Stream(context, [&](FakeState& s) {
      for (const v1::Event& event : s.events) {
        if (event.revision() < next || !Wanted(event, request->resource())) continue;
        next = event.revision() + 1;
        v1::FollowEventsResponse response;
        *response.mutable_event() = event;
        writer->Write(response);
      }
      return Step::kWait;
    });
  }
  FakeServer::Impl& impl;
};

}  // namespace

void AddStreamServices(FakeServer::Impl& impl, Services& services) {
  services.push_back(std::make_unique<MetricFake>(impl));
  services.push_back(std::make_unique<LogFake>(impl));
  services.push_back(std::make_unique<EventFake>(impl));
}

}  // namespace p2::testing
