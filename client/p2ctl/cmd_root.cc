// root init|list: storage roots.
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/paging.h"
#include "client/p2ctl/storage_root.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct InitOptions {
  std::string directory;
};
struct ListOptions {};

absl::StatusOr<int> Init(Context& context, const InitOptions& options) {
  P2_ASSIGN_OR_RETURN(const std::string id, InitRoot(options.directory));
  const std::string path = std::filesystem::weakly_canonical(options.directory).string();
  Listing listing({{.name = "id"}, {.name = "path"}});
  listing.Add({{"id", id}, {"path", path}}, path, {id, path});
  P2_RETURN_IF_ERROR(context.Print(listing.FormatOne(context.style())));
  context.Say(absl::StrCat("a worker offers it with --root NAME=", path));
  return kOk;
}

absl::StatusOr<int> List(Context& context, const ListOptions&) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const Page<v1::StorageRoot> page,
                      CollectPages(*client, &Client::ListRoots, &v1::ListRootsResponse::roots, v1::ListRootsRequest()));
  Listing listing({{.name = "name"},
                   {.name = "free", .right = true},
                   {.name = "total", .right = true},
                   {.name = "workers"},
                   {.name = "path"},
                   {.name = "id", .wide = true}});
  for (const v1::StorageRoot& root : page.items) {
    const std::string workers =
        absl::StrJoin(root.workers(), ",", [](std::string* out, const std::string& name) { out->append(IdOf(name)); });
    listing.Add(
        ToJson(root), root.name(),
        {root.name(), BytesCell(root.free_bytes()), BytesCell(root.total_bytes()), workers, root.path(), root.id()});
  }
  P2_RETURN_IF_ERROR(context.PrintList(listing, "no roots; a worker offers them with --root NAME=DIR"));
  return kOk;
}

}  // namespace

void AddRoot(CLI::App& app, Context& context) {
  CLI::App* group = app.add_subcommand("root", "Storage roots: directories that hold datasets and checkpoints");
  group->require_subcommand(1);
  auto options = std::make_shared<InitOptions>();
  CLI::App* init =
      AddVerb(*group, context, "init", "Make a directory a storage root (gives it an ID; harmless if it has one)",
              "  p2ctl root init /data/p2", options, Init);
  init->add_option("DIR", options->directory)->required();
  AddVerb(*group, context, "list", "List the roots that the workers see", "  p2ctl root list",
          std::make_shared<ListOptions>(), List);
}

}  // namespace p2::ctl
