// metrics: the series of jobs, as rows over images seen.
#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/interrupt.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/metric_query.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options {
  std::vector<std::string> jobs;
  std::vector<std::string> metrics;
  std::string from, to, every;
  int max_points = 0;
  bool follow = false;
  std::string attempt;
};

// All values of one job at one position.
struct Row {
  google::protobuf::Timestamp time;
  int64_t step = 0;
  bool superseded = false;
  std::map<std::string, const v1::MetricPoint*> points;
};
// By images seen, then attempt.
using Rows = std::map<std::pair<int64_t, int>, Row>;

std::vector<Column> Columns(const std::vector<std::string>& metrics, bool many_jobs, bool thinned) {
  std::vector<Column> columns = {{.name = "job", .wide = !many_jobs},
                                 {.name = "images", .right = true},
                                 {.name = "step", .right = true, .optional = true},
                                 {.name = "attempt", .right = true, .wide = true},
                                 {.name = "time", .optional = true}};
  for (const std::string& metric : metrics) {
    columns.push_back({.name = metric, .right = true, .optional = metric != "loss"});
    if (!thinned) continue;
    for (const char* bound : {"_min", "_max"})
      columns.push_back({.name = absl::StrCat(metric, bound), .right = true, .wide = true});
  }
  return columns;
}

Cell ValueCell(double value) { return Cell(FormatNumber(value), absl::StrFormat("%.9g", value)); }

Json RowJson(const std::string& job, int64_t images, int attempt, const Row& row) {
  Json json;
  json["job"] = job;
  json["imagesSeen"] = absl::StrCat(images);
  json["step"] = absl::StrCat(row.step);
  json["time"] = FormatUtcTime(row.time);
  json["attempt"] = attempt;
  json["superseded"] = row.superseded;
  json["values"] = Json::object();
  for (const auto& [metric, point] : row.points) {
    json["values"][metric] = point->value();
    if (point->count() > 1)
      json["ranges"][metric] = {{"count", point->count()}, {"min", point->min()}, {"max", point->max()}};
  }
  return json;
}

Rows RowsOf(const v1::QueryMetricsResponse& response) {
  Rows rows;
  for (const v1::MetricSeries& series : response.series()) {
    for (const v1::MetricPoint& point : series.points()) {
      Row& row = rows[{point.images_seen(), point.attempt()}];
      row.time = point.time();
      row.step = point.step();
      row.superseded = point.superseded();
      row.points[series.metric()] = &point;
    }
  }
  return rows;
}

std::vector<std::string> MetricNames(const Options& options) {
  std::vector<std::string> names;
  for (const std::string& text : options.metrics) {
    for (absl::string_view name : absl::StrSplit(text, ',', absl::SkipEmpty())) names.emplace_back(name);
  }
  return names;
}

absl::StatusOr<v1::QueryMetricsRequest> MakeRequest(const v1::Job& job, const Options& options) {
  v1::QueryMetricsRequest request;
  request.set_job(job.name());
  for (const std::string& name : MetricNames(options)) request.add_metrics(name);
  int64_t from = 0, to = 0;
  if (!options.from.empty()) {
    P2_ASSIGN_OR_RETURN(from, ParseCount(options.from));
  }
  if (!options.to.empty()) {
    P2_ASSIGN_OR_RETURN(to, ParseCount(options.to));
  }
  request.set_from_images(from);
  request.set_to_images(to);
  request.set_max_points(options.max_points);
  if (!options.every.empty()) {
    P2_ASSIGN_OR_RETURN(const int64_t every, ParseCount(options.every));
    if (every < 1) return UsageError("--every: at least 1 image");
    const int64_t end = to > 0 ? std::min(to, job.progress().images_seen()) : job.progress().images_seen();
    constexpr int64_t kMostPoints = 100'000;
    request.set_max_points(static_cast<int>(std::clamp((end - from) / every, int64_t{1}, kMostPoints)));
  }
  if (!options.attempt.empty() && options.attempt != "all") {
    return UsageError(
        absl::StrCat("--attempt \"", options.attempt, "\": only all is known (shows superseded points too)"));
  }
  request.set_include_superseded(options.attempt == "all");
  return request;
}

// The series to show, as asked for; else all that some job has, by name, but the 24 bins of each SNR metric.
absl::StatusOr<std::vector<std::string>> Choose(Client& client, const std::vector<v1::Job>& jobs,
                                                const Options& options) {
  std::set<std::string> all;
  for (const v1::Job& job : jobs) {
    P2_ASSIGN_OR_RETURN(const std::vector<std::string> names, MetricsOf(client, job.name()));
    all.insert(names.begin(), names.end());
  }
  std::vector<std::string> known(all.begin(), all.end());
  const std::vector<std::string> asked = MetricNames(options);
  if (!asked.empty()) return ChooseMetrics(asked, known);
  std::erase_if(known, IsPartOfLoss);
  return known;
}

// Why a table has no rows.
std::string NoPoints(const std::vector<v1::Job>& jobs, bool ranged) {
  if (ranged) return "no points in this range";
  const bool ended = std::all_of(jobs.begin(), jobs.end(), [](const v1::Job& job) { return IsTerminal(job.state()); });
  if (ended)
    return jobs.size() == 1 ? "no points: the job ended before its first"
                            : "no points: the jobs ended before their first";
  return "no points yet; metrics come every training.log_every_images images";
}

absl::StatusOr<int> Query(Context& context, const std::vector<v1::Job>& jobs, const Options& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const std::vector<std::string> shown, Choose(*client, jobs, options));
  std::vector<v1::QueryMetricsResponse> responses;
  bool thinned = false;
  for (const v1::Job& job : jobs) {
    P2_ASSIGN_OR_RETURN(v1::QueryMetricsRequest request, MakeRequest(job, options));
    request.clear_metrics();
    for (const std::string& name : shown) request.add_metrics(name);
    thinned = thinned || request.max_points() > 0;
    responses.emplace_back();
    if (shown.empty()) continue;  // No job has points.
    P2_ASSIGN_OR_RETURN(responses.back(), QueryAllMetrics(*client, request, job.progress().images_seen()));
    thinned = thinned || IsThinned(responses.back());
  }
  if (context.style().format == OutputFormat::kName) {  // Jobs are named, not rows: each that has points, once.
    for (size_t i = 0; i < jobs.size(); ++i) {
      if (responses[i].series_size() > 0) context.PrintText(absl::StrCat(IdOf(jobs[i].name()), "\n"));
    }
    return kOk;
  }
  Listing listing(Columns(shown, jobs.size() > 1, thinned));
  for (size_t i = 0; i < jobs.size(); ++i) {
    const std::string id = IdOf(jobs[i].name());
    for (const auto& [at, row] : RowsOf(responses[i])) {
      const bool any = std::any_of(shown.begin(), shown.end(),
                                   [&row](const std::string& metric) { return row.points.count(metric) > 0; });
      if (!any) continue;
      std::vector<Cell> cells = {id, CountCell(at.first), absl::StrCat(row.step), absl::StrCat(at.second),
                                 TimeCell(row.time)};
      for (const std::string& metric : shown) {
        const auto point = row.points.find(metric);
        const bool has = point != row.points.end();
        cells.push_back(has ? ValueCell(point->second->value()) : Cell(""));
        if (!thinned) continue;
        const bool range = has && point->second->count() > 1;
        cells.push_back(range ? ValueCell(point->second->min()) : Cell(""));
        cells.push_back(range ? ValueCell(point->second->max()) : Cell(""));
      }
      listing.Add(RowJson(id, at.first, at.second, row), id, std::move(cells));
    }
  }
  P2_RETURN_IF_ERROR(
      context.PrintList(listing, NoPoints(jobs, !shown.empty() && (!options.from.empty() || !options.to.empty()))));
  return kOk;
}

// Prints what the jobs report, from the first point on, until the job ends.
absl::StatusOr<int> Follow(Context& context, const v1::Job& job, const Options& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::QueryMetricsRequest range, MakeRequest(job, options));
  v1::StreamMetricsRequest request;
  request.set_job(job.name());
  // Names are known once it has points; until then all that is asked for may come.
  P2_ASSIGN_OR_RETURN(const std::vector<std::string> known, MetricsOf(*client, job.name()));
  std::vector<std::string> shown;
  if (const std::vector<std::string> asked = MetricNames(options); !asked.empty()) {
    P2_ASSIGN_OR_RETURN(shown, ChooseMetrics(asked, known));
  }
  for (const std::string& name : shown) request.add_metrics(name);
  const std::unique_ptr<Stream<v1::StreamMetricsResponse>> stream = client->StreamMetrics(request);
  Interrupt interrupt;  // Ends before the stream that its callback touches.
  interrupt.OnRaise([&stream] { stream->Cancel(); });
  absl::StatusOr<std::optional<v1::StreamMetricsResponse>> next;
  const bool chosen = !shown.empty();
  bool first = true;
  while ((next = stream->Next()).ok() && next->has_value()) {
    const v1::StreamMetricsResponse& point = **next;
    if (point.images_seen() < range.from_images() || (range.to_images() > 0 && point.images_seen() > range.to_images()))
      continue;
    std::map<std::string, double> values(point.values().begin(), point.values().end());
    if (!chosen) std::erase_if(values, [](const auto& value) { return IsPartOfLoss(value.first); });
    if (shown.empty()) {  // The columns of the first row stay.
      for (const auto& [metric, value] : values) shown.push_back(metric);
    }
    const std::string id = IdOf(job.name());
    std::vector<Cell> cells = {id, CountCell(point.images_seen()), absl::StrCat(point.step()),
                               absl::StrCat(point.attempt()), TimeCell(point.time())};
    for (const std::string& metric : shown) {
      const auto value = values.find(metric);
      cells.push_back(value != values.end() ? ValueCell(value->second) : Cell(""));
    }
    Json json = {{"job", id},
                 {"imagesSeen", absl::StrCat(point.images_seen())},
                 {"step", absl::StrCat(point.step())},
                 {"time", FormatUtcTime(point.time())},
                 {"attempt", point.attempt()},
                 {"values", values}};
    Listing listing(Columns(shown, false, false));
    listing.Add(std::move(json), id, std::move(cells));
    const bool lines =
        context.style().format == OutputFormat::kJson || context.style().format == OutputFormat::kJsonLines;
    P2_RETURN_IF_ERROR(
        context.Print(first && !lines ? listing.Format(context.style()) : listing.FormatRows(context.style())));
    first = false;
  }
  if (interrupt.raised()) {
    context.Say(absl::StrCat("detached: ", IdOf(job.name()), " goes on. `p2ctl metrics -f ", IdOf(job.name()),
                             "` follows again."));
    return kInterrupted;
  }
  if (!next.ok()) return next.status();
  return kOk;
}

absl::StatusOr<int> Run(Context& context, const Options& options) {
  if (options.follow && options.jobs.size() > 1) return UsageError("-f follows one job; name one");
  std::vector<v1::Job> jobs;
  for (const std::string& ref : options.jobs) {
    P2_ASSIGN_OR_RETURN(jobs.emplace_back(), context.ResolveJob(ref));
  }
  return options.follow ? Follow(context, jobs.front(), options) : Query(context, jobs, options);
}

}  // namespace

void AddMetrics(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = AddVerb(app, context, "metrics", "Show the metrics of jobs over images seen",
                           "  p2ctl metrics mnist-demo-abcde -m loss,images_per_second --every 10k\n"
                           "  p2ctl metrics A B -m loss -o csv > loss.csv\n"
                           "  p2ctl metrics mnist-demo-abcde -f -o jsonl",
                           options, Run);
  verb->add_option("JOB", options->jobs, "IDs, or unique prefixes")->required();
  verb->add_option(
          "-m,--metric", options->metrics,
          "Only these: loss,mse,vb,grad_norm,images_per_second; loss_snr_* for the bins of the SNR (also loss_q*, "
          "loss_coarse …), which are left out else")
      ->type_name("NAME,..")
      ->allow_extra_args(false);
  verb->add_option("--from", options->from, "First images seen: 500k");
  verb->add_option("--to", options->to, "Last images seen: 10M");
  CLI::Option* points =
      verb->add_option("--max-points", options->max_points,
                       "Thin to at most this many points a series (mean; minimum and maximum in wide, csv, json)");
  points->check(CLI::Range(1, 100'000));
  verb->add_option("--every", options->every, "Thin to about a point every N images")->type_name("N")->excludes(points);
  verb->add_flag("-f,--follow", options->follow,
                 "Every point from the first on, then new ones as they come, until the job ends");
  verb->add_option("--attempt", options->attempt, "all: also points that a rollback superseded")->type_name("all");
}

}  // namespace p2::ctl
