// preset list|show: the named specs.
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/paging.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct ListOptions {};
struct ShowOptions {
  std::string preset;
  bool yaml = false;
};

absl::StatusOr<int> List(Context& context, const ListOptions&) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(
      const Page<v1::Preset> page,
      CollectPages(*client, &Client::ListPresets, &v1::ListPresetsResponse::presets, v1::ListPresetsRequest()));
  Listing listing({{.name = "name"},
                   {.name = "size", .right = true},
                   {.name = "images", .right = true},
                   {.name = "batch", .right = true, .wide = true},
                   {.name = "gamma", .right = true, .wide = true},
                   {.name = "extends"},
                   {.name = "description", .truncate = true}});
  for (const v1::Preset& preset : page.items) {
    const std::string id = IdOf(preset.name());
    listing.Add(ToJson(preset), id,
                {id,
                 Cell(absl::StrCat(preset.spec().model().image_size(), " px"),
                      absl::StrCat(preset.spec().model().image_size())),
                 CountCell(preset.spec().training().images()), absl::StrCat(preset.spec().training().batch()),
                 FormatNumber(preset.spec().objective().gamma()), preset.extends(), preset.description()});
  }
  P2_RETURN_IF_ERROR(context.PrintList(listing, "the server has no presets", page.next_page_token));
  return kOk;
}

absl::StatusOr<int> Show(Context& context, const ShowOptions& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::GetPresetRequest request;
  request.set_name(absl::StrCat("presets/", options.preset));
  P2_ASSIGN_OR_RETURN(const v1::Preset preset, client->GetPreset(request));
  if (options.yaml) {
    context.PrintText(preset.yaml());
    return kOk;
  }
  if (!context.ForPeople()) {
    Listing listing({{.name = "name"}, {.name = "description"}});
    listing.Add(ToJson(preset), IdOf(preset.name()), {IdOf(preset.name()), preset.description()});
    P2_RETURN_IF_ERROR(context.Print(listing.FormatOne(context.style())));
    return kOk;
  }
  v1::ResolvePresetRequest resolve;
  resolve.set_name(request.name());
  P2_ASSIGN_OR_RETURN(const v1::ResolvePresetResponse resolved, client->ResolvePreset(resolve));
  context.PrintText(absl::StrCat("Preset:       ", IdOf(preset.name()), "\nDescription:  ", preset.description(),
                                 preset.extends().empty() ? "" : "\nExtends:      ", preset.extends(), "\n\nSpec:\n",
                                 SpecText(resolved.spec(), resolved.origins(), context.style().table), "\n",
                                 EstimateText(resolved.estimate())));
  for (const std::string& warning : resolved.warnings()) context.Say(absl::StrCat("warning: ", warning));
  return kOk;
}

}  // namespace

void AddPreset(CLI::App& app, Context& context) {
  CLI::App* group = app.add_subcommand("preset", "Named specs");
  group->require_subcommand(1);
  AddVerb(*group, context, "list", "List the presets", "  p2ctl preset list -o wide", std::make_shared<ListOptions>(),
          List);
  auto options = std::make_shared<ShowOptions>();
  CLI::App* show =
      AddVerb(*group, context, "show", "Show a preset's resolved spec, with the origin of each value and its cost",
              "  p2ctl preset show ffhq-gamma0.5\n  p2ctl preset show own-256 --file > mine.yaml", options, Show);
  show->add_option("PRESET", options->preset)->required();
  show->add_flag("--file", options->yaml, "The file's own text instead");
}

}  // namespace p2::ctl
