// ckpt list, samples list|get, artifact list|get: what jobs wrote.
#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/paging.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

constexpr char kSamples[] = "samples";

struct ListOptions {
  std::string job;
  std::string kind;
};
struct GetOptions {
  std::string job;
  std::vector<std::string> ids;
  std::string kind;
  std::string out;
  bool all = false;
};

absl::StatusOr<int> ListCheckpoints(Context& context, const ListOptions& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(options.job));
  v1::ListCheckpointsRequest request;
  request.set_parent(job.name());
  P2_ASSIGN_OR_RETURN(
      const Page<v1::Checkpoint> page,
      CollectPages(*client, &Client::ListCheckpoints, &v1::ListCheckpointsResponse::checkpoints, request));
  P2_RETURN_IF_ERROR(
      context.PrintList(CheckpointListing(page.items),
                        absl::StrCat("job ", IdOf(job.name()),
                                     " has no checkpoints yet; they come every checkpoint.every_images images")));
  return kOk;
}

absl::StatusOr<std::vector<v1::Artifact>> Artifacts(Context& context, const v1::Job& job, const std::string& kind) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::ListArtifactsRequest request;
  request.set_parent(job.name());
  request.set_kind(kind);
  P2_ASSIGN_OR_RETURN(Page<v1::Artifact> page,
                      CollectPages(*client, &Client::ListArtifacts, &v1::ListArtifactsResponse::artifacts, request));
  return std::move(page.items);
}

Listing ArtifactListing(const std::vector<v1::Artifact>& artifacts) {
  Listing listing({{.name = "id"},
                   {.name = "kind"},
                   {.name = "images", .right = true},
                   {.name = "size", .right = true},
                   {.name = "attempt", .right = true},
                   {.name = "created", .optional = true},
                   {.name = "type", .wide = true},
                   {.name = "sha256", .wide = true}});
  for (const v1::Artifact& artifact : artifacts) {
    listing.Add(ToJson(artifact), IdOf(artifact.name()),
                {IdOf(artifact.name()), artifact.kind(), CountCell(artifact.images_seen()),
                 BytesCell(artifact.size_bytes()), absl::StrCat(artifact.attempt()), TimeCell(artifact.create_time()),
                 artifact.content_type(), artifact.sha256()});
  }
  return listing;
}

absl::StatusOr<int> ListArtifacts(Context& context, const ListOptions& options) {
  P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(options.job));
  P2_ASSIGN_OR_RETURN(const std::vector<v1::Artifact> artifacts, Artifacts(context, job, options.kind));
  P2_RETURN_IF_ERROR(context.PrintList(
      ArtifactListing(artifacts),
      absl::StrCat("job ", IdOf(job.name()), " has no ", options.kind.empty() ? "artifacts" : options.kind, " yet")));
  return kOk;
}

// `--out` for one artifact may be a file; a directory (existing, or ending in '/') takes files under their own names.
absl::StatusOr<std::string> Destination(const GetOptions& options, const std::string& id, bool many) {
  if (options.out.empty()) return id;
  const bool directory = many || absl::EndsWith(options.out, "/") || std::filesystem::is_directory(options.out);
  if (!directory) return options.out;
  std::error_code error;
  std::filesystem::create_directories(options.out, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat("--out ", options.out, ": ", error.message()));
  return (std::filesystem::path(options.out) / id).string();
}

// The server's error, in which the artifact has its resource name, in the words of the command line.
absl::Status NoSuchArtifact(const absl::Status& error, const std::string& job, const std::string& id) {
  absl::Status said = absl::NotFoundError(
      absl::StrCat("job \"", job, "\" has no artifact \"", id, "\"; `p2ctl artifact list ", job, "` shows them"));
  error.ForEachPayload([&said](absl::string_view type, const absl::Cord& payload) { said.SetPayload(type, payload); });
  return said;
}

// Without IDs the newest. Prints the paths of the files that were written.
absl::StatusOr<int> Get(Context& context, const GetOptions& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(options.job));
  std::vector<std::string> ids = options.ids;
  if (ids.empty()) {
    P2_ASSIGN_OR_RETURN(const std::vector<v1::Artifact> artifacts, Artifacts(context, job, options.kind));
    if (artifacts.empty()) {
      return absl::NotFoundError(absl::StrCat("job ", IdOf(job.name()), " has no ",
                                              options.kind.empty() ? "artifacts" : options.kind, " yet"));
    }
    for (const v1::Artifact& artifact : artifacts) ids.push_back(IdOf(artifact.name()));
    if (!options.all) ids.erase(ids.begin(), ids.end() - 1);
  }
  Listing listing({{.name = "path"}});
  for (const std::string& id : ids) {
    P2_ASSIGN_OR_RETURN(const std::string path, Destination(options, id, ids.size() > 1));
    const absl::StatusOr<v1::Artifact> artifact =
        client->DownloadArtifact(absl::StrCat(job.name(), "/artifacts/", id), path);
    if (absl::IsNotFound(artifact.status())) return NoSuchArtifact(artifact.status(), IdOf(job.name()), id);
    if (!artifact.ok()) return artifact.status();
    Json json = {{"path", path}, {"artifact", ToJson(*artifact)}};
    listing.Add(std::move(json), path, {path});
  }
  OutputStyle style = context.style();
  style.table.headers = false;
  P2_RETURN_IF_ERROR(context.Print(listing.Format(style)));
  return kOk;
}

void AddList(CLI::App& group, Context& context, const std::string& kind, const std::string& help,
             const std::string& example) {
  auto options = std::make_shared<ListOptions>();
  options->kind = kind;
  CLI::App* list = AddVerb(group, context, "list", help, example, options, ListArtifacts);
  list->add_option("JOB", options->job, "ID, or a unique prefix")->required();
  if (kind.empty()) list->add_option("--kind", options->kind, "Only this kind: samples");
}

void AddGet(CLI::App& group, Context& context, const std::string& kind, const std::string& help,
            const std::string& example) {
  auto options = std::make_shared<GetOptions>();
  options->kind = kind;
  CLI::App* get = AddVerb(group, context, "get", help, example, options, Get);
  get->add_option("JOB", options->job, "ID, or a unique prefix")->required();
  CLI::Option* ids = get->add_option("ID", options->ids, "Of the list; default: the newest");
  get->add_flag("--all", options->all, "All of them")->excludes(ids);
  get->add_option("--out", options->out, "File, or directory for several; default: here, under their own names")
      ->type_name("PATH");
}

}  // namespace

void AddFiles(CLI::App& app, Context& context) {
  CLI::App* ckpt = app.add_subcommand("ckpt", "Checkpoints");
  ckpt->require_subcommand(1);
  auto options = std::make_shared<ListOptions>();
  CLI::App* list = AddVerb(*ckpt, context, "list", "List a job's checkpoints, newest first",
                           "  p2ctl ckpt list mnist-demo-abcde -o wide", options, ListCheckpoints);
  list->add_option("JOB", options->job, "ID, or a unique prefix")->required();
  AddCheckpointVerbs(*ckpt, context);
  AddCheckpointTasks(*ckpt, context);

  CLI::App* samples = app.add_subcommand("samples", "Sample grids: the same noise over a job's life");
  samples->require_subcommand(1);
  AddList(*samples, context, kSamples, "List a job's sample grids, oldest first",
          "  p2ctl samples list mnist-demo-abcde");
  AddGet(*samples, context, kSamples, "Download sample grids; prints the paths",
         "  p2ctl samples get mnist-demo-abcde\n  p2ctl samples get mnist-demo-abcde --all --out grids/");
  AddMakeSamples(*samples, context);

  CLI::App* artifact = app.add_subcommand("artifact", "All files that a job wrote for people");
  artifact->require_subcommand(1);
  AddList(*artifact, context, "", "List a job's artifacts, oldest first",
          "  p2ctl artifact list mnist-demo-abcde --kind samples");
  AddGet(*artifact, context, "", "Download artifacts; prints the paths",
         "  p2ctl artifact get mnist-demo-abcde samples-000001000.png --out first.png");
}

}  // namespace p2::ctl
