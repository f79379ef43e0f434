// quota list|set|weight: what accounts may hold, and their weight in fair share.
#include <algorithm>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/explanation_view.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

constexpr int32_t kAnyNumber = -1;

struct ListOptions {};
struct SetOptions {
  std::string account, devices, borrow, queued_jobs;
};
struct WeightOptions {
  std::string share;
  double weight = 0;
};

Listing QuotaListing(const std::vector<v1::Quota>& quotas) {
  Listing listing({{.name = "account"},
                   {.name = "devices", .right = true},
                   {.name = "held", .right = true},
                   {.name = "borrow", .right = true},
                   {.name = "queued-jobs", .right = true},
                   {.name = "queued", .right = true}});
  const auto limit = [](bool is_set, int32_t value) { return is_set ? absl::StrCat(value) : std::string("none"); };
  for (const v1::Quota& quota : quotas) {
    listing.Add(ToJson(quota), quota.name(),
                {quota.name(), limit(quota.has_devices(), quota.devices()), absl::StrCat(quota.devices_held()),
                 !quota.has_devices()           ? ""
                 : quota.borrow() == kAnyNumber ? "any"
                                                : absl::StrCat(quota.borrow()),
                 limit(quota.has_queued_jobs(), quota.queued_jobs()), absl::StrCat(quota.jobs_queued())});
  }
  return listing;
}

absl::StatusOr<int> List(Context& context, const ListOptions&) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::ListQuotasResponse response, client->ListQuotas());
  P2_RETURN_IF_ERROR(context.PrintList(QuotaListing({response.quotas().begin(), response.quotas().end()}),
                                       "no quotas, and nobody has a live job; `p2ctl quota set users/NAME --devices N` "
                                       "makes one"));
  return kOk;
}

// A number from 0 on, or `word`: nullopt.
absl::StatusOr<std::optional<int32_t>> ParseLimit(absl::string_view flag, const std::string& text,
                                                  absl::string_view word) {
  if (text == word) return std::optional<int32_t>();
  int32_t value = 0;
  if (!absl::SimpleAtoi(text, &value) || value < 0) {
    return UsageError(absl::StrCat(flag, " \"", text, "\": write a number from 0 on, or ", word));
  }
  return std::optional<int32_t>(value);
}

// Limits that are not named stay as they are.
absl::StatusOr<int> Set(Context& context, const SetOptions& options) {
  if (!absl::StartsWith(options.account, "users/") && !absl::StartsWith(options.account, "projects/")) {
    return UsageError(absl::StrCat("\"", options.account, "\" is no account; write users/NAME or projects/NAME"));
  }
  if (options.devices.empty() && options.borrow.empty() && options.queued_jobs.empty())
    return UsageError("nothing to set: give --devices, --borrow or --queued-jobs");
  std::optional<int32_t> devices, borrow, queued_jobs;
  if (!options.devices.empty()) {
    P2_ASSIGN_OR_RETURN(devices, ParseLimit("--devices", options.devices, "none"));
  }
  if (!options.borrow.empty()) {
    P2_ASSIGN_OR_RETURN(borrow, ParseLimit("--borrow", options.borrow, "any"));
  }
  if (!options.queued_jobs.empty()) {
    P2_ASSIGN_OR_RETURN(queued_jobs, ParseLimit("--queued-jobs", options.queued_jobs, "none"));
  }
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::ListQuotasResponse present, client->ListQuotas());
  v1::SetQuotaRequest request;
  request.set_request_id(context.flags.request_id);
  v1::Quota& quota = *request.mutable_quota();
  const auto known = std::find_if(present.quotas().begin(), present.quotas().end(),
                                  [&options](const v1::Quota& it) { return it.name() == options.account; });
  if (known != present.quotas().end()) quota = *known;
  quota.set_name(options.account);
  quota.clear_devices_held();
  quota.clear_jobs_queued();
  if (!options.devices.empty()) quota.clear_devices();
  if (devices.has_value()) quota.set_devices(*devices);
  if (!options.borrow.empty()) quota.set_borrow(borrow.value_or(kAnyNumber));
  if (!options.queued_jobs.empty()) quota.clear_queued_jobs();
  if (queued_jobs.has_value()) quota.set_queued_jobs(*queued_jobs);
  P2_ASSIGN_OR_RETURN(const v1::Quota set, client->SetQuota(request));
  P2_RETURN_IF_ERROR(context.Print(QuotaListing({set}).FormatOne(context.style())));
  return kOk;
}

absl::StatusOr<int> Weigh(Context& context, const WeightOptions& options) {
  v1::SetWeightRequest request;
  request.set_id(options.share);
  request.set_weight(options.weight);
  request.set_request_id(context.flags.request_id);
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::FairShare share, client->SetWeight(request));
  Listing listing({{.name = "share"},
                   {.name = "devices", .right = true},
                   {.name = "used", .right = true},
                   {.name = "weight", .right = true},
                   {.name = "score", .right = true}});
  listing.Add(ToJson(share), share.id(),
              {share.id(), absl::StrCat(share.devices()), DeviceHoursCell(share.usage()), FormatNumber(share.weight()),
               DeviceHoursCell(share.score())});
  P2_RETURN_IF_ERROR(context.Print(listing.FormatOne(context.style())));
  return kOk;
}

}  // namespace

void AddQuota(CLI::App& app, Context& context) {
  CLI::App* group = app.add_subcommand("quota", "What people and projects may hold, and their fair share");
  group->require_subcommand(1);
  AddVerb(*group, context, "list", "List the quotas, and what accounts hold now", "  p2ctl quota list",
          std::make_shared<ListOptions>(), List);
  const auto options = std::make_shared<SetOptions>();
  CLI::App* set = AddVerb(*group, context, "set", "Limit an account; limits that are not named stay",
                          "  p2ctl quota set users/ada --devices 4 --borrow 2\n"
                          "  p2ctl quota set projects/faces --devices none --queued-jobs 100",
                          options, Set);
  set->add_option("ACCOUNT", options->account, "users/NAME or projects/NAME")->required();
  set->add_option("--devices", options->devices, "Devices held at once")->type_name("N|none");
  set->add_option("--borrow", options->borrow,
                  "Devices beyond that while nobody within quota waits for them; preemption takes them back")
      ->type_name("N|any");
  set->add_option("--queued-jobs", options->queued_jobs, "Jobs QUEUED or PAUSED at once")->type_name("N|none");
  const auto weight = std::make_shared<WeightOptions>();
  CLI::App* verb =
      AddVerb(*group, context, "weight",
              "Set the weight of a project, or of an owner within one: twice the weight, twice the devices",
              "  p2ctl quota weight faces 2\n  p2ctl quota weight faces/ada 0.5\n"
              "`p2ctl queue describe` shows the shares.",
              weight, Weigh);
  verb->add_option("SHARE", weight->share, "PROJECT or PROJECT/OWNER")->required();
  verb->add_option("WEIGHT", weight->weight, "Above 0; the default is 1")->required();
}

}  // namespace p2::ctl
