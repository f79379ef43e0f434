#include "client/p2ctl/explanation_view.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/fact_sheet.h"
#include "client/p2ctl/log_text.h"
#include "client/p2ctl/units.h"

namespace p2::ctl {
namespace {

// A number and its unit, as coarse as a prediction deserves.
std::pair<int64_t, std::string> Rough(double seconds) {
  if (seconds < 90) return {std::llround(seconds), "s"};
  if (seconds < 90 * 60) return {std::llround(seconds / 60), "min"};
  if (seconds < 48 * 3600) return {std::llround(seconds / 3600), "h"};
  return {std::llround(seconds / 86400), "days"};
}

std::string RoughText(double seconds) {
  const auto [number, unit] = Rough(seconds);
  return absl::StrCat(number, " ", unit);
}

std::string ReasonText(const v1::JobExplanation& explanation) {
  return explanation.reason() == v1::STATUS_REASON_UNSPECIFIED
             ? ""
             : absl::StrCat(" (", v1::StatusReason_Name(explanation.reason()), ")");
}

bool Waits(const v1::JobExplanation& explanation) { return explanation.position() > 0; }

// "w0 (cuda:0, cuda:1), w1 (cuda:0)", in the order of the ranks.
std::string PlacementText(const google::protobuf::RepeatedPtrField<v1::RankPlacement>& ranks) {
  std::vector<std::pair<std::string, std::vector<std::string>>> workers;
  for (const v1::RankPlacement& rank : ranks) {
    const std::string worker = IdOf(rank.worker());
    if (workers.empty() || workers.back().first != worker) workers.emplace_back(worker, std::vector<std::string>());
    workers.back().second.push_back(rank.slot());
  }
  return absl::StrJoin(workers, ", ", [](std::string* out, const auto& worker) {
    absl::StrAppend(out, worker.first, " (", absl::StrJoin(worker.second, ", "), ")");
  });
}

// A job by its ID, as other verbs take it; other resources by their names.
std::string BlockerName(const std::string& resource) {
  return resource.rfind("jobs/", 0) == 0 ? IdOf(resource) : resource;
}

std::string BlockersText(const v1::JobExplanation& explanation, const TableStyle& style) {
  if (explanation.blockers().empty()) return "";
  std::vector<std::vector<TableCell>> rows;
  for (const v1::JobExplanation::Blocker& blocker : explanation.blockers())
    rows.push_back({{BlockerName(blocker.resource())}, {blocker.why()}});
  return Section("Blockers", {{.title = "WHO"}, {.title = "WHY", .wrap = true}}, rows, style);
}

}  // namespace

std::string PositionText(const v1::JobExplanation& explanation) {
  return absl::StrCat(FormatCount(explanation.position()), " of ", FormatCount(explanation.waiting()),
                      " that wait for devices");
}

std::string StartsText(const v1::JobExplanation& explanation) {
  if (!explanation.has_earliest_seconds()) return "not known";
  const double earliest = explanation.earliest_seconds();
  if (!explanation.has_latest_seconds()) return absl::StrCat("in ", RoughText(earliest), " at the earliest");
  const double latest = std::max(earliest, explanation.latest_seconds());
  const auto from = Rough(earliest), to = Rough(latest);
  if (from == to) return to.first == 0 ? "now" : absl::StrCat("in about ", RoughText(latest));
  if (from.first == 0) return absl::StrCat("within ", RoughText(latest));
  if (from.second == to.second) return absl::StrCat("in ", from.first, " to ", RoughText(latest));
  return absl::StrCat("in ", RoughText(earliest), " to ", RoughText(latest));
}

std::string ExplanationText(const v1::JobExplanation& explanation, const TableStyle& style) {
  std::string out;
  const auto line = [&](absl::string_view key, absl::string_view value) {
    absl::StrAppend(&out, FactLine(key, value, style));
  };
  line("Job", IdOf(explanation.name()));
  line("State", absl::StrCat(v1::Job::State_Name(explanation.state()), ReasonText(explanation)));
  line("Why", FirstLine(explanation.message()));
  if (Waits(explanation)) {
    line("Position", PositionText(explanation));
    line("Devices",
         absl::StrCat(explanation.devices_free(), " free of ", explanation.devices_exist(), " that suit it"));
  }
  if (explanation.state() == v1::Job::QUEUED) line("Starts", StartsText(explanation));
  line("What helps", explanation.unblock());
  absl::StrAppend(&out, BlockersText(explanation, style));
  if (!explanation.shares().empty()) absl::StrAppend(&out, SharesText(explanation.shares(), style));
  return out;
}

std::string ForecastText(const v1::JobExplanation& forecast, const TableStyle& style) {
  if (!forecast.placement().empty()) {
    return FactLine("Forecast", absl::StrCat("would start now on ", PlacementText(forecast.placement())), style);
  }
  if (forecast.state() != v1::Job::QUEUED) {
    return FactLine("Forecast", absl::StrCat("would be ", v1::Job::State_Name(forecast.state())), style);
  }
  std::string out = FactLine(
      "Forecast", absl::StrCat("would wait", ReasonText(forecast), ": ", FirstLine(forecast.message())), style);
  if (Waits(forecast)) absl::StrAppend(&out, FactLine("Position", PositionText(forecast), style));
  absl::StrAppend(&out, FactLine("Starts", StartsText(forecast), style),
                  FactLine("What helps", forecast.unblock(), style), BlockersText(forecast, style));
  return out;
}

Cell DeviceHoursCell(double device_seconds) {
  return Cell(absl::StrFormat("%.2f h", device_seconds / 3600), absl::StrCat(device_seconds));
}

std::string SharesText(const google::protobuf::RepeatedPtrField<v1::FairShare>& shares, const TableStyle& style) {
  std::vector<std::vector<TableCell>> rows;
  for (const v1::FairShare& share : shares) {
    rows.push_back({{share.id()},
                    {absl::StrCat(share.devices())},
                    {DeviceHoursCell(share.usage()).text},
                    {FormatNumber(share.weight())},
                    {DeviceHoursCell(share.score()).text}});
  }
  return Section("Shares (device-hours, halved every 24 h; of equal priority the lower score goes first)",
                 {{.title = "PROJECT[/OWNER]"},
                  {.title = "DEVICES", .right = true},
                  {.title = "USED", .right = true},
                  {.title = "WEIGHT", .right = true},
                  {.title = "SCORE", .right = true}},
                 rows, style);
}

}  // namespace p2::ctl
