// version: of this program, of the server and of the workers that it knows.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/paging.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options {
  bool client = false;
};

absl::Status AskServer(Context& context, Listing& listing) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::ServerInfo server, client->GetServerInfo());
  listing.Add({{"what", "p2d"}, {"version", server.version()}, {"protocol", server.protocol_version()}},
              absl::StrCat("p2d ", server.version()),
              {"p2d", server.version(), absl::StrCat(server.protocol_version())});
  P2_ASSIGN_OR_RETURN(
      const Page<v1::Worker> page,
      CollectPages(*client, &Client::ListWorkers, &v1::ListWorkersResponse::workers, v1::ListWorkersRequest()));
  for (const v1::Worker& worker : page.items) {
    const std::string what = absl::StrCat("p2-worker ", IdOf(worker.name()));
    listing.Add({{"what", what}, {"version", worker.version()}, {"protocol", worker.protocol_version()}},
                absl::StrCat(what, " ", worker.version()),
                {what, worker.version(), absl::StrCat(worker.protocol_version())});
  }
  return absl::OkStatus();
}

absl::StatusOr<int> Run(Context& context, const Options& options) {
  const std::string version(ClientVersion());
  Listing listing({{.name = "what"}, {.name = "version"}, {.name = "protocol"}});
  listing.Add({{"what", "p2ctl"}, {"version", version}, {"protocol", 0}}, absl::StrCat("p2ctl ", version),
              {"p2ctl", version, ""});
  // Without a server its own version is still told, then what failed.
  const absl::Status asked = options.client ? absl::OkStatus() : AskServer(context, listing);
  P2_RETURN_IF_ERROR(context.Print(listing.Format(context.style())));
  if (!asked.ok()) return asked;
  return kOk;
}

}  // namespace

void AddVersion(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = AddVerb(app, context, "version", "Versions of p2ctl, of the server and of its workers",
                           "  p2ctl version --client", options, Run);
  verb->add_flag("--client", options->client, "Of p2ctl alone; asks no server");
}

}  // namespace p2::ctl
