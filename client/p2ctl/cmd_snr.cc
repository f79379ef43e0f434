// snr: where in the noise a job's loss lies, by 24 bins of log SNR and by the paper's three stages.
#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/metric_query.h"
#include "client/p2ctl/units.h"
#include "common/spec/snr_bins.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

constexpr int kBarWidth = 24;

struct Options {
  std::string job, from, to;
};

// Sums over rows.
struct Sums {
  double count = 0, raw = 0, weighted = 0;
  void operator+=(const Sums& other) {
    count += other.count;
    raw += other.raw;
    weighted += other.weighted;
  }
};
using Bins = std::array<Sums, spec::kSnrBins>;

// From the means and shares of each row back to sums: a row has count_snr_NN samples in bin NN, and its share is of the
// row's weighted MSE times all its samples. Of a thinned point only the means are known: there the products of means
// stand for the means of products.
Bins SumsOf(const v1::QueryMetricsResponse& response) {
  struct Value {
    double mean = 0;
    int rows = 0;
    double sum() const { return mean * rows; }
  };
  std::map<std::pair<int64_t, int>, std::map<std::string, Value>> rows;
  for (const v1::MetricSeries& series : response.series()) {
    for (const v1::MetricPoint& point : series.points())
      rows[{point.images_seen(), point.attempt()}][series.metric()] = {point.value(), std::max(1, point.count())};
  }
  Bins bins;
  for (const auto& [at, row] : rows) {
    const auto value = [&row](const std::string& name) {
      const auto it = row.find(name);
      return it == row.end() ? Value() : it->second;
    };
    const Value mse = value("mse_weighted");
    double samples = 0;
    for (int bin = 0; bin < spec::kSnrBins; ++bin) samples += value(spec::SnrBinName("count_snr_", bin)).sum();
    for (int bin = 0; bin < spec::kSnrBins; ++bin) {
      const double count = value(spec::SnrBinName("count_snr_", bin)).sum();
      const double share = value(spec::SnrBinName("weighted_share_snr_", bin)).sum() / std::max(1, mse.rows);
      bins[static_cast<size_t>(bin)] +=
          {count, count * value(spec::SnrBinName("loss_snr_", bin)).mean, share * mse.mean * samples};
    }
  }
  return bins;
}

void AddRow(Listing& listing, const std::string& name, absl::string_view stage, double low, double high,
            const Sums& sums, double weighted, double widest) {
  const double share = weighted > 0 ? sums.weighted / weighted : 0;
  const bool any = sums.count > 0;
  Json json = {{"bin", name},
               {"stage", std::string(stage)},
               {"snrFrom", low},
               {"snrTo", std::isfinite(high) ? Json(high) : Json(nullptr)},
               {"count", static_cast<int64_t>(std::llround(sums.count))},
               {"mse", any ? Json(sums.raw / sums.count) : Json(nullptr)},
               {"weightedShare", share}};
  const std::string range =
      std::isfinite(high) ? absl::StrFormat("%.3g to %.3g", low, high) : absl::StrFormat("above %.3g", low);
  std::string bar;
  for (int i = 0; i < static_cast<int>(std::lround(kBarWidth * (widest > 0 ? share / widest : 0))); ++i)
    bar += '#';  // Not a block: where the locale is not UTF-8, tables show it as \x….
  listing.Add(
      std::move(json), name,
      {name, Cell(range, absl::StrCat(low)), std::string(stage), CountCell(std::llround(sums.count)),
       any ? Cell(FormatNumber(sums.raw / sums.count), absl::StrFormat("%.9g", sums.raw / sums.count)) : Cell(""),
       Cell(absl::StrFormat("%.2f%%", 100 * share), absl::StrFormat("%.9g", share)), Cell(bar, "")});
}

absl::StatusOr<int> Run(Context& context, const Options& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(options.job));
  const int64_t seen = job.progress().images_seen();
  v1::QueryMetricsRequest request;
  request.set_job(job.name());
  int64_t from = seen - seen / 10, to = 0;
  if (!options.from.empty()) {
    P2_ASSIGN_OR_RETURN(from, ParseCount(options.from));
  }
  if (!options.to.empty()) {
    P2_ASSIGN_OR_RETURN(to, ParseCount(options.to));
    if (options.from.empty()) from = to - to / 10;
  }
  request.set_from_images(from);
  request.set_to_images(to);
  request.add_metrics("mse_weighted");
  for (const char* prefix : {"loss_snr_", "count_snr_", "weighted_share_snr_"}) {
    for (int bin = 0; bin < spec::kSnrBins; ++bin) request.add_metrics(spec::SnrBinName(prefix, bin));
  }
  P2_ASSIGN_OR_RETURN(const v1::QueryMetricsResponse response, QueryAllMetrics(*client, request, seen));
  const Bins bins = SumsOf(response);
  Sums all;
  std::array<Sums, spec::kStages> stages;
  for (int bin = 0; bin < spec::kSnrBins; ++bin) {
    const Sums& sums = bins[static_cast<size_t>(bin)];
    all += sums;
    stages[static_cast<size_t>(spec::StageOfBin(bin))] += sums;
  }
  if (all.count == 0) {
    return absl::NotFoundError(absl::StrCat("job ", IdOf(job.name()), " reported nothing by SNR from ", from, " to ",
                                            to > 0 ? to : seen,
                                            " images; it does every training.log_every_images images"));
  }
  double widest = 0;
  for (const Sums& sums : bins) widest = std::max(widest, sums.weighted / all.weighted);
  Listing listing({{.name = "bin"},
                   {.name = "snr"},
                   {.name = "stage"},
                   {.name = "count", .right = true},
                   {.name = "mse", .right = true},
                   {.name = "share", .right = true},
                   {.name = "share of the weighted loss", .optional = true}});
  for (int bin = 0; bin < spec::kSnrBins; ++bin) {
    const double low = spec::SnrBinLow(bin), high = spec::SnrBinLow(bin + 1);
    AddRow(listing, absl::StrFormat("%02d", bin), spec::StageName(spec::StageOfBin(bin)), low, high,
           bins[static_cast<size_t>(bin)], all.weighted, widest);
  }
  for (int stage = 0; stage < spec::kStages; ++stage) {
    const auto which = static_cast<spec::Stage>(stage);
    AddRow(listing, std::string(spec::StageName(which)), spec::StageName(which), spec::StageLow(which),
           stage + 1 == spec::kStages ? INFINITY : spec::StageLow(static_cast<spec::Stage>(stage + 1)),
           stages[static_cast<size_t>(stage)], all.weighted, 1);
  }
  context.Say(absl::StrCat(FormatCount(std::llround(all.count)), " samples, from ", FormatCount(from), " to ",
                           FormatCount(to > 0 ? to : seen), " images seen (--from, --to)"));
  P2_RETURN_IF_ERROR(context.PrintList(listing, ""));
  return kOk;
}

}  // namespace

void AddSnr(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = AddVerb(
      app, context, "snr", "Show a job's ε-MSE and its share of the weighted loss by SNR, in 24 bins and three stages",
      "  p2ctl snr mnist-demo-abcde\n  p2ctl snr mnist-demo-abcde --from 0 --to 100k -o csv", options, Run);
  verb->add_option("JOB", options->job, "ID, or a unique prefix")->required();
  verb->add_option("--from", options->from, "First images seen; default: the last tenth of the run")
      ->type_name("IMAGES");
  verb->add_option("--to", options->to, "Last images seen; default: all")->type_name("IMAGES");
}

}  // namespace p2::ctl
