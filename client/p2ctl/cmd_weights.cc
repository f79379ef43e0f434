// weights list|plot|check: the factor that the objective puts on each timestep.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/p2ctl/chart.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/units.h"
#include "common/spec/noise_schedule.h"
#include "common/spec/snr_bins.h"
#include "common/spec/weighting.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

constexpr double kNoisyGamma = 2;  // Above it samples show noise (the paper).

struct ListFlags {};
struct CurveFlags {
  std::vector<std::string> weights;
  std::string gamma, view = "both", against = "t", out;
  std::string schedule = "linear";
  double k = 1;
  int timesteps = 1000;
  bool normalised = false;
};

// One weight over the timesteps of a schedule.
struct Curve {
  std::string name;
  std::vector<double> factor;  // On the epsilon-MSE.
  std::vector<double> lambda;  // Relative to the bound's terms L_t (Eq. 8).
};

absl::StatusOr<int> List(Context& context, const ListFlags&) {
  Listing listing({{.name = "scheme"}, {.name = "expression"}, {.name = "what", .truncate = true}});
  for (const spec::WeightScheme& scheme : spec::WeightSchemes()) {
    const std::string name(scheme.name), expression(scheme.expression), what(scheme.what);
    listing.Add({{"scheme", name}, {"expression", expression}, {"what", what}}, name, {name, expression, what});
  }
  P2_RETURN_IF_ERROR(context.PrintList(listing, ""));
  return kOk;
}

absl::StatusOr<std::vector<double>> Gammas(const std::string& text, std::vector<double> otherwise) {
  if (text.empty()) return otherwise;
  std::vector<double> gammas;
  for (absl::string_view one : absl::StrSplit(text, ',')) {
    if (!absl::SimpleAtod(one, &gammas.emplace_back()))
      return UsageError(absl::StrCat("--gamma ", text, ": \"", one, "\" is no number"));
  }
  return gammas;
}

// Whether another gamma is another weight.
absl::StatusOr<bool> ReadsGamma(const std::string& weight, double gamma, double k,
                                const spec::NoiseSchedule& schedule) {
  P2_ASSIGN_OR_RETURN(const std::vector<double> one, spec::ObjectiveWeights(weight, gamma, k, schedule));
  const absl::StatusOr<std::vector<double>> other = spec::ObjectiveWeights(weight, gamma + 1, k, schedule);
  return !other.ok() || *other != one;
}

// Every weight, once for each gamma where it reads one.
absl::StatusOr<std::vector<Curve>> Curves(Context& context, const CurveFlags& flags,
                                          const spec::NoiseSchedule& schedule, const std::vector<double>& gammas) {
  std::vector<Curve> curves;
  for (const std::string& weight : flags.weights) {
    P2_ASSIGN_OR_RETURN(const bool reads, ReadsGamma(weight, gammas.front(), flags.k, schedule));
    for (size_t i = 0; i < (reads ? gammas.size() : 1); ++i) {
      Curve curve{reads ? absl::StrCat(weight, " gamma=", gammas[i]) : weight, {}, {}};
      if (reads && gammas[i] > kNoisyGamma) {
        context.Say(absl::StrCat("warning: gamma ", gammas[i], " is above ", kNoisyGamma,
                                 ": samples show noise artifacts there (the paper)"));
      }
      P2_ASSIGN_OR_RETURN(curve.factor, spec::ObjectiveWeights(weight, gammas[i], flags.k, schedule));
      curve.lambda = spec::LambdaPrime(schedule, curve.factor);
      if (flags.normalised) {
        curve.factor = spec::Normalised(curve.factor);
        curve.lambda = spec::Normalised(curve.lambda);
      }
      curves.push_back(std::move(curve));
    }
  }
  return curves;
}

absl::StatusOr<spec::NoiseSchedule> Schedule(const CurveFlags& flags) {
  P2_ASSIGN_OR_RETURN(const spec::ScheduleKind kind, spec::ParseScheduleKind(flags.schedule));
  return spec::MakeNoiseSchedule(kind, flags.timesteps);
}

Chart MakeChart(const CurveFlags& flags, const spec::NoiseSchedule& schedule, const std::vector<Curve>& curves,
                bool lambda) {
  Chart chart;
  chart.title = lambda ? "weight relative to the bound's terms (λ-view of Fig. 3)" : "factor on the ε-MSE";
  chart.y_label = flags.normalised ? "normalised to sum 1" : lambda ? "λ'" : "w";
  const bool snr = flags.against == "snr";
  chart.x_label = snr ? "SNR" : "t";
  chart.log_x = snr;
  chart.log_y = !flags.normalised;
  for (const Curve& curve : curves) {
    ChartSeries series{curve.name, {}};
    const std::vector<double>& values = lambda ? curve.lambda : curve.factor;
    for (size_t t = 0; t < values.size(); ++t)
      series.points.emplace_back(snr ? schedule.snr[t] : static_cast<double>(t), values[t]);
    std::sort(series.points.begin(), series.points.end());
    chart.series.push_back(std::move(series));
  }
  return chart;
}

// A row a timestep, for programs.
absl::Status PrintTable(Context& context, const spec::NoiseSchedule& schedule, const std::vector<Curve>& curves) {
  std::vector<Column> columns = {{.name = "t", .right = true}, {.name = "snr", .right = true}};
  for (const Curve& curve : curves) {
    columns.push_back({.name = absl::StrCat("factor ", curve.name), .right = true});
    columns.push_back({.name = absl::StrCat("lambda ", curve.name), .right = true});
  }
  Listing listing(std::move(columns));
  for (size_t t = 0; t < schedule.snr.size(); ++t) {
    Json json = {{"t", t}, {"snr", schedule.snr[t]}, {"factor", Json::object()}, {"lambda", Json::object()}};
    std::vector<Cell> cells = {absl::StrCat(t), absl::StrFormat("%.9g", schedule.snr[t])};
    for (const Curve& curve : curves) {
      json["factor"][curve.name] = curve.factor[t];
      json["lambda"][curve.name] = curve.lambda[t];
      cells.emplace_back(absl::StrFormat("%.9g", curve.factor[t]));
      cells.emplace_back(absl::StrFormat("%.9g", curve.lambda[t]));
    }
    listing.Add(std::move(json), absl::StrCat(t), std::move(cells));
  }
  return context.PrintList(listing, "");
}

absl::StatusOr<int> Plot(Context& context, const CurveFlags& given) {
  CurveFlags flags = given;
  if (flags.weights.empty()) flags.weights = {"p2"};
  P2_ASSIGN_OR_RETURN(const spec::NoiseSchedule schedule, Schedule(flags));
  P2_ASSIGN_OR_RETURN(const std::vector<double> gammas, Gammas(flags.gamma, {0, 0.5, 1}));
  P2_ASSIGN_OR_RETURN(const std::vector<Curve> curves, Curves(context, flags, schedule, gammas));
  std::vector<Chart> charts;
  if (flags.view != "lambda") charts.push_back(MakeChart(flags, schedule, curves, /*lambda=*/false));
  if (flags.view != "factor") charts.push_back(MakeChart(flags, schedule, curves, /*lambda=*/true));
  if (!flags.out.empty()) {
    P2_RETURN_IF_ERROR(WriteChartsPng(charts, flags.out));
    context.PrintText(absl::StrCat(flags.out, "\n"));
    return kOk;
  }
  if (!context.ForPeople()) {
    P2_RETURN_IF_ERROR(PrintTable(context, schedule, curves));
    return kOk;
  }
  const TableStyle& style = context.style().table;
  for (const Chart& chart : charts)
    context.PrintText(absl::StrCat(RenderChart(chart, style.width > 0 ? style.width : 80, style.color), "\n"));
  return kOk;
}

// Extremes, and how much of the λ-view lies in each of the paper's stages.
absl::StatusOr<int> Check(Context& context, const CurveFlags& flags) {
  P2_ASSIGN_OR_RETURN(const spec::NoiseSchedule schedule, Schedule(flags));
  P2_ASSIGN_OR_RETURN(const std::vector<double> gammas, Gammas(flags.gamma, {1}));
  P2_ASSIGN_OR_RETURN(const std::vector<Curve> curves, Curves(context, flags, schedule, gammas));
  Listing listing({{.name = "weight"},
                   {.name = "min", .right = true},
                   {.name = "min at t", .right = true},
                   {.name = "max", .right = true},
                   {.name = "max at t", .right = true},
                   {.name = "coarse", .right = true},
                   {.name = "content", .right = true},
                   {.name = "clean-up", .right = true}});
  for (const Curve& curve : curves) {
    const auto [low, high] = std::minmax_element(curve.factor.begin(), curve.factor.end());
    const auto t_of = [&](auto it) { return static_cast<int>(it - curve.factor.begin()); };
    if (!(*high > 0)) {
      return absl::InvalidArgumentError(
          absl::StrCat("the weight \"", curve.name, "\" is 0 at every t: nothing would be trained"));
    }
    const std::vector<double> lambda = spec::Normalised(curve.lambda);
    double shares[3] = {};
    for (size_t t = 0; t < lambda.size(); ++t) shares[static_cast<int>(spec::StageOf(schedule.snr[t]))] += lambda[t];
    const auto percent = [](double share) { return Cell(absl::StrFormat("%.1f%%", 100 * share), absl::StrCat(share)); };
    Json json = {
        {"weight", curve.name}, {"min", *low},
        {"minAt", t_of(low)},   {"max", *high},
        {"maxAt", t_of(high)},  {"shares", {{"coarse", shares[0]}, {"content", shares[1]}, {"cleanUp", shares[2]}}}};
    listing.Add(std::move(json), curve.name,
                {curve.name, FormatNumber(*low), absl::StrCat(t_of(low)), FormatNumber(*high), absl::StrCat(t_of(high)),
                 percent(shares[0]), percent(shares[1]), percent(shares[2])});
  }
  P2_RETURN_IF_ERROR(context.PrintList(listing, ""));
  return kOk;
}

void AddCurveFlags(CLI::App& verb, CurveFlags& flags, const std::string& gamma_default) {
  verb.add_option("--gamma", flags.gamma, absl::StrCat("Values of gamma; default: ", gamma_default))->type_name("G,..");
  verb.add_option("--k", flags.k, "Default: 1")->type_name("K");
  verb.add_option("--schedule", flags.schedule, "linear or cosine; default: linear")
      ->type_name("NAME")
      ->check(CLI::IsMember({"linear", "cosine"}).description(""));
  verb.add_option("--timesteps", flags.timesteps, "T; default: 1000")->type_name("T");
}

}  // namespace

void AddWeights(CLI::App& app, Context& context) {
  CLI::App* weights = app.add_subcommand("weights", "The objective's weights: schemes and expressions");
  weights->require_subcommand(1);
  AddVerb(*weights, context, "list", "List the schemes with their expressions", "  p2ctl weights list",
          std::make_shared<ListFlags>(), List);

  auto plot = std::make_shared<CurveFlags>();
  CLI::App* verb = AddVerb(*weights, context, "plot",
                           "Draw weights: their factor on the ε-MSE, and relative to the bound's terms (Fig. 3)",
                           "  p2ctl weights plot\n"
                           "  p2ctl weights plot p2 vlb min-snr --gamma 1 --against snr --normalised\n"
                           "  p2ctl weights plot 'pow(k+snr,-gamma)' --view lambda --out weights.png",
                           plot, Plot);
  verb->add_option("WEIGHT", plot->weights, "Schemes or expressions; default: p2");
  AddCurveFlags(*verb, *plot, "0, 0.5 and 1");
  verb->add_option("--view", plot->view, "factor (on the ε-MSE), lambda (Fig. 3) or both; default: both")
      ->type_name("VIEW")
      ->check(CLI::IsMember({"factor", "lambda", "both"}).description(""));
  verb->add_option("--against", plot->against, "t or snr; default: t")
      ->type_name("AXIS")
      ->check(CLI::IsMember({"t", "snr"}).description(""));
  verb->add_flag("--normalised", plot->normalised, "Divided by the sum over t");
  verb->add_option("--out", plot->out, "Write a PNG instead")->type_name("FILE");

  auto check = std::make_shared<CurveFlags>();
  verb = AddVerb(*weights, context, "check",
                 "Say whether a weight may be trained with, its extremes, and its shares by the paper's stages",
                 "  p2ctl weights check 'min(snr,5)/snr'\n"
                 "  p2ctl weights check p2 simple vlb --gamma 0.5,1 --schedule cosine\n"
                 "Shares are of the λ-view: coarse SNR < 0.01, content 0.01 to 1, clean-up > 1. Exit: 0; 2 if a weight "
                 "does not parse, or is negative or not finite somewhere.",
                 check, Check);
  verb->add_option("WEIGHT", check->weights, "Schemes or expressions")->required();
  AddCurveFlags(*verb, *check, "1");
}

}  // namespace p2::ctl
