#include "client/p2ctl/metric_query.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/p2ctl/errors.h"
#include "common/spec/nearest_name.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

absl::Status NoSuchMetric(absl::string_view name, const std::vector<std::string>& known) {
  std::vector<std::string> shown;
  bool bins = false;
  for (const std::string& metric : known) {
    if (IsPartOfLoss(metric)) {
      bins = true;
    } else {
      shown.push_back(metric);
    }
  }
  if (bins) shown.push_back("parts of the loss (loss_snr_* by SNR, loss_q* by t, loss_coarse …)");
  const std::string near = spec::DidYouMean(name, known);
  return UsageError(absl::StrCat("no metric \"", name, "\"", near, near.empty() ? "; it has " : " it has ",
                                 absl::StrJoin(shown, ", ")));
}

int PointsOf(const v1::QueryMetricsResponse& response) {
  int points = 0;
  for (const v1::MetricSeries& series : response.series()) points += series.points_size();
  return points;
}

// QueryAllMetrics from `whole` on, p2d's answer to `request`.
absl::StatusOr<v1::QueryMetricsResponse> InParts(Client& client, const v1::QueryMetricsRequest& request,
                                                 int64_t last_images, v1::QueryMetricsResponse whole) {
  if (!IsThinned(whole)) return whole;
  v1::QueryMetricsRequest first = request, second = request;
  const int64_t from = request.from_images(),
                to = request.to_images() > 0 ? request.to_images() : std::max(from, last_images);
  if (const int half = request.metrics_size() / 2; half > 0) {
    first.mutable_metrics()->DeleteSubrange(half, request.metrics_size() - half);
    second.mutable_metrics()->DeleteSubrange(0, half);
  } else if (to > from + 1) {
    // The second part keeps its open end: the job may have gone on.
    first.set_to_images(from + (to - from) / 2);
    second.set_from_images(first.to_images() + 1);
  } else {
    return whole;
  }
  P2_ASSIGN_OR_RETURN(v1::QueryMetricsResponse response, client.QueryMetrics(first));
  P2_ASSIGN_OR_RETURN(v1::QueryMetricsResponse rest, client.QueryMetrics(second));
  // What p2d has kept thinned comes no finer by asking for less of it.
  const int of_first = PointsOf(response), of_second = PointsOf(rest);
  if (of_first > 0 && of_second > 0 && of_first + of_second <= PointsOf(whole)) return whole;
  P2_ASSIGN_OR_RETURN(response, InParts(client, first, last_images, std::move(response)));
  P2_ASSIGN_OR_RETURN(rest, InParts(client, second, last_images, std::move(rest)));
  for (v1::MetricSeries& series : *rest.mutable_series()) *response.add_series() = std::move(series);
  return response;
}

}  // namespace

bool IsThinned(const v1::QueryMetricsResponse& response) {
  const auto& all = response.series();
  return std::any_of(all.begin(), all.end(), [](const v1::MetricSeries& series) {
    return std::any_of(series.points().begin(), series.points().end(),
                       [](const v1::MetricPoint& point) { return point.count() > 1; });
  });
}

bool IsPartOfLoss(absl::string_view metric) {
  static constexpr absl::string_view kParts[] = {"_q0", "_q1", "_q2", "_q3", "_coarse", "_content", "_clean_up"};
  return absl::StrContains(metric, "_snr_") ||
         std::any_of(std::begin(kParts), std::end(kParts),
                     [metric](absl::string_view part) { return absl::EndsWith(metric, part); });
}

absl::StatusOr<std::vector<std::string>> MetricsOf(Client& client, const std::string& job) {
  v1::QueryMetricsRequest request;
  request.set_job(job);
  request.set_max_points(1);
  request.set_include_superseded(true);
  P2_ASSIGN_OR_RETURN(const v1::QueryMetricsResponse response, client.QueryMetrics(request));
  std::vector<std::string> names;
  for (const v1::MetricSeries& series : response.series()) names.push_back(series.metric());
  std::sort(names.begin(), names.end());
  return names;
}

absl::StatusOr<std::vector<std::string>> ChooseMetrics(const std::vector<std::string>& names,
                                                       const std::vector<std::string>& known) {
  if (known.empty()) return names;
  std::vector<std::string> chosen;
  for (const std::string& name : names) {
    absl::string_view prefix = name;
    const bool pattern = absl::ConsumeSuffix(&prefix, "*");
    const size_t before = chosen.size();
    for (const std::string& metric : known) {
      if (pattern ? absl::StartsWith(metric, prefix) : metric == name) chosen.push_back(metric);
    }
    if (chosen.size() == before) return NoSuchMetric(name, known);
  }
  return chosen;
}

absl::StatusOr<v1::QueryMetricsResponse> QueryAllMetrics(Client& client, const v1::QueryMetricsRequest& request,
                                                         int64_t last_images) {
  P2_ASSIGN_OR_RETURN(v1::QueryMetricsResponse whole, client.QueryMetrics(request));
  if (request.max_points() > 0) return whole;
  return InParts(client, request, last_images, std::move(whole));
}

}  // namespace p2::ctl
