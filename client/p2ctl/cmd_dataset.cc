// dataset prepare|register|list|validate|advise: prepared image sets.
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <stop_token>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/dataset_advice.h"
#include "client/p2ctl/interrupt.h"
#include "client/p2ctl/local_state.h"
#include "client/p2ctl/paging.h"
#include "client/p2ctl/progress_line.h"
#include "client/p2ctl/source_ref.h"
#include "client/p2ctl/storage_root.h"
#include "common/image/prepare.h"
#include "common/resource_name.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

namespace fs = std::filesystem;

constexpr size_t kShownBadImages = 20;

struct PrepareFlags {
  std::string input, name, root;
  int resolution = 0;
  int channels = 3;
  int workers = 0;
  bool exif = false;
  image::DecodeLimits limits;
};
struct RegisterFlags {
  std::string directory, name, root;
};
struct ListFlags {};
struct ValidateFlags {
  std::string dataset;
};
struct AdviseFlags {
  std::string directory;
  double images_per_second = 0;
};

// The directory of root ROOT on this machine: itself a root, or the name of one that p2ctl local or a worker here
// offers.
absl::StatusOr<std::string> RootDirectory(Context& context, const std::string& root) {
  if (fs::is_directory(root)) {
    P2_RETURN_IF_ERROR(ReadRootId(root).status());
    return fs::weakly_canonical(root).string();
  }
  P2_ASSIGN_OR_RETURN(const std::optional<LocalState> local, ReadLocalState(LocalStatePath()));
  if (local.has_value()) {
    for (const LocalRoot& known : local->roots) {
      if (known.name == root) return known.path;
    }
  }
  const absl::StatusOr<std::vector<v1::StorageRoot>> seen = SeenRoots(context);
  if (seen.ok()) {
    for (const v1::StorageRoot& known : *seen) {
      if (known.name() != root) continue;
      const absl::StatusOr<std::string> id = ReadRootId(known.path());
      if (id.ok() && *id == known.id()) return known.path();
      return absl::FailedPreconditionError(
          absl::StrCat("root \"", root, "\" is not mounted on this machine at ", known.path(),
                       "; run `p2ctl dataset prepare` where it is, or give its directory here"));
    }
  }
  return absl::NotFoundError(absl::StrCat(
      "--root \"", root, "\" is neither a directory nor a root that the server knows",
      seen.ok() ? " (`p2ctl root list`)" : " (no server answers)", "; `p2ctl root init DIR` makes a directory one"));
}

// The server's name for the root with `id`.
absl::StatusOr<std::string> RootName(Context& context, const RootedPath& where) {
  P2_ASSIGN_OR_RETURN(const std::vector<v1::StorageRoot> seen, SeenRoots(context));
  for (const v1::StorageRoot& root : seen) {
    if (root.id() == where.root_id) return root.name();
  }
  return absl::FailedPreconditionError(absl::StrCat("no worker sees the root ", where.root, " (ID ", where.root_id,
                                                    "); start p2-worker with --root NAME=", where.root,
                                                    ", then `p2ctl dataset register DIR`"));
}

absl::StatusOr<v1::Dataset> Register(Context& context, const std::string& directory,
                                     const image::DatasetManifest& manifest, const std::string& root_name,
                                     const std::string& name) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const RootedPath where, FindRootAbove(directory));
  v1::RegisterDatasetRequest request;
  request.set_request_id(context.flags.request_id);
  v1::Dataset& dataset = *request.mutable_dataset();
  dataset.set_name(absl::StrCat("datasets/", name.empty() ? manifest.name : name));
  dataset.set_root(root_name);
  if (root_name.empty()) {
    P2_ASSIGN_OR_RETURN(*dataset.mutable_root(), RootName(context, where));
  }
  dataset.set_root_id(where.root_id);
  dataset.set_path(where.relative);
  dataset.set_resolution(manifest.resolution);
  dataset.set_channels(manifest.channels);
  dataset.set_image_count(static_cast<int64_t>(manifest.count));
  for (const image::ShardInfo& shard : manifest.shards)
    dataset.set_size_bytes(dataset.size_bytes() + static_cast<int64_t>(shard.bytes));
  dataset.set_fingerprint(manifest.fingerprint);
  dataset.set_bad_image_count(static_cast<int64_t>(manifest.bad_count));
  return client->RegisterDataset(request);
}

Listing DatasetListing(const std::vector<v1::Dataset>& datasets) {
  Listing listing({{.name = "name"},
                   {.name = "images", .right = true},
                   {.name = "resolution", .right = true},
                   {.name = "channels", .right = true},
                   {.name = "size", .right = true},
                   {.name = "unreadable", .right = true},
                   {.name = "root"},
                   {.name = "created", .optional = true},
                   {.name = "fingerprint", .truncate = true},
                   {.name = "path", .wide = true}});
  for (const v1::Dataset& dataset : datasets) {
    listing.Add(ToJson(dataset), IdOf(dataset.name()),
                {IdOf(dataset.name()), CountCell(dataset.image_count()), absl::StrCat(dataset.resolution()),
                 absl::StrCat(dataset.channels()), BytesCell(dataset.size_bytes()),
                 CountCell(dataset.bad_image_count()), dataset.root(), TimeCell(dataset.create_time()),
                 Cell(dataset.fingerprint().substr(0, 16), dataset.fingerprint()), dataset.path()});
  }
  return listing;
}

void SayBadImages(const Context& context, const image::DatasetManifest& manifest, const std::string& directory) {
  if (manifest.bad_count == 0) return;
  context.Say(absl::StrCat(manifest.bad_count, manifest.bad_count == 1 ? " file" : " files", " could not be read:"));
  for (size_t i = 0; i < std::min(kShownBadImages, manifest.bad_images.size()); ++i) {
    context.Say(absl::StrCat("  ", manifest.bad_images[i].path, ": ", manifest.bad_images[i].reason));
  }
  if (manifest.bad_count > kShownBadImages) {
    context.Say(absl::StrCat("  … and ", manifest.bad_count - kShownBadImages, " more in ", directory, "/",
                             image::kManifestFile));
  }
}

// Draws `line` for what `label` is at, in `phase`.
std::function<void(const image::PrepareProgress&)> DrawOn(ProgressLine& line, const std::string& label,
                                                          const std::string& phase) {
  return [&line, label, phase](const image::PrepareProgress& progress) {
    ProgressState state;
    state.label = label;
    state.phase = progress.bad == 0 ? phase : absl::StrCat(phase, " (", progress.bad, " unreadable)");
    state.done = static_cast<int64_t>(progress.done);
    state.total = static_cast<int64_t>(progress.total);
    state.per_second = progress.images_per_second;
    state.eta = progress.eta;
    line.Update(state, absl::Now(), progress.done == progress.total);
  };
}

absl::StatusOr<image::DatasetManifest> PrepareWithProgress(const Context& context, const PrepareFlags& flags,
                                                           const std::string& output) {
  std::stop_source stop;
  Interrupt interrupt;
  interrupt.OnRaise([&stop] { stop.request_stop(); });
  ProgressLine line(STDERR_FILENO);
  image::PrepareOptions options;
  options.input = flags.input;
  options.output = output;
  options.name = flags.name;
  options.resolution = flags.resolution;
  options.channels = flags.channels;
  options.threads = flags.workers;
  options.stop = stop.get_token();
  options.exif = flags.exif;
  options.limits = flags.limits;
  if (!context.flags.quiet) options.progress = DrawOn(line, flags.name, "preparing");
  absl::StatusOr<image::DatasetManifest> manifest = image::PrepareDataset(options);
  return manifest;
}

absl::StatusOr<int> Prepare(Context& context, const PrepareFlags& flags) {
  if (!IsDottedId(flags.name)) {
    return absl::InvalidArgumentError(
        absl::StrCat("dataset name \"", flags.name, "\" does not match [a-z0-9][a-z0-9._-]{0,62}"));
  }
  P2_ASSIGN_OR_RETURN(const std::string root, RootDirectory(context, flags.root));
  const std::string output = (fs::path(root) / kDatasetsDirectory / flags.name).string();
  std::error_code error;
  fs::create_directories(fs::path(output).parent_path(), error);
  if (error) return absl::FailedPreconditionError(absl::StrCat("cannot make ", output, ": ", error.message()));
  const absl::StatusOr<image::DatasetManifest> manifest = PrepareWithProgress(context, flags, output);
  if (absl::IsCancelled(manifest.status())) {
    context.Say(manifest.status().message());
    return kInterrupted;
  }
  if (!manifest.ok()) return manifest.status();
  SayBadImages(context, *manifest, output);
  const absl::StatusOr<v1::Dataset> dataset = Register(context, output, *manifest, "", "");
  Json json;
  json["name"] = flags.name;
  json["path"] = output;
  json["resolution"] = manifest->resolution;
  json["channels"] = manifest->channels;
  json["imageCount"] = absl::StrCat(manifest->count);
  json["fingerprint"] = manifest->fingerprint;
  json["badImageCount"] = absl::StrCat(manifest->bad_count);
  json["badImages"] = Json::array();
  for (const image::BadImage& bad : manifest->bad_images)
    json["badImages"].push_back({{"path", bad.path}, {"reason", bad.reason}});
  json["registered"] = dataset.ok();
  Listing listing({{.name = "name"},
                   {.name = "images", .right = true},
                   {.name = "unreadable", .right = true},
                   {.name = "registered"},
                   {.name = "fingerprint"},
                   {.name = "path"}});
  listing.Add(std::move(json), flags.name,
              {flags.name, CountCell(static_cast<int64_t>(manifest->count)),
               CountCell(static_cast<int64_t>(manifest->bad_count)), dataset.ok() ? "yes" : "no",
               Cell(manifest->fingerprint.substr(0, 16), manifest->fingerprint), output});
  P2_RETURN_IF_ERROR(context.Print(listing.FormatOne(context.style())));
  if (absl::IsUnavailable(dataset.status())) {
    context.Say(
        absl::StrCat("prepared, not registered: no server answers. When one runs: p2ctl dataset register ", output));
    return kOk;
  }
  if (!dataset.ok()) return dataset.status();
  return kOk;
}

absl::StatusOr<int> RunRegister(Context& context, const RegisterFlags& flags) {
  P2_ASSIGN_OR_RETURN(const image::DatasetManifest manifest, image::LoadManifest(flags.directory));
  P2_ASSIGN_OR_RETURN(const v1::Dataset dataset, Register(context, flags.directory, manifest, flags.root, flags.name));
  P2_RETURN_IF_ERROR(context.Print(DatasetListing({dataset}).FormatOne(context.style())));
  return kOk;
}

absl::StatusOr<int> List(Context& context, const ListFlags&) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(
      const Page<v1::Dataset> page,
      CollectPages(*client, &Client::ListDatasets, &v1::ListDatasetsResponse::datasets, v1::ListDatasetsRequest()));
  P2_RETURN_IF_ERROR(
      context.PrintList(DatasetListing(page.items), "no datasets; `p2ctl dataset prepare DIR NAME …` makes one"));
  return kOk;
}

// The directory of a dataset: DIR itself, or of the one registered as NAME under a root that is mounted here.
absl::StatusOr<std::string> DatasetDirectory(Context& context, const std::string& dataset) {
  if (fs::is_directory(dataset)) return dataset;
  if (!IsDottedId(dataset))
    return absl::NotFoundError(absl::StrCat(dataset, " is neither a directory nor the name of a dataset"));
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(
      const Page<v1::Dataset> page,
      CollectPages(*client, &Client::ListDatasets, &v1::ListDatasetsResponse::datasets, v1::ListDatasetsRequest()));
  for (const v1::Dataset& known : page.items) {
    if (IdOf(known.name()) != dataset) continue;
    P2_ASSIGN_OR_RETURN(const std::string root, RootDirectory(context, known.root()));
    return (fs::path(root) / known.path()).string();
  }
  return absl::NotFoundError(absl::StrCat(
      "\"", dataset, "\" is neither a directory nor a registered dataset; `p2ctl dataset list` shows them"));
}

absl::StatusOr<int> Validate(Context& context, const ValidateFlags& flags) {
  P2_ASSIGN_OR_RETURN(const std::string directory, DatasetDirectory(context, flags.dataset));
  std::stop_source stop;
  Interrupt interrupt;
  interrupt.OnRaise([&stop] { stop.request_stop(); });
  ProgressLine line(STDERR_FILENO);
  std::function<void(const image::PrepareProgress&)> progress;
  if (!context.flags.quiet) progress = DrawOn(line, fs::path(directory).filename().string(), "checking");
  P2_ASSIGN_OR_RETURN(const image::DatasetManifest manifest,
                      image::VerifyDataset(directory, progress, stop.get_token()));
  Json json;
  json["name"] = manifest.name;
  json["path"] = directory;
  json["imageCount"] = absl::StrCat(manifest.count);
  json["shardCount"] = absl::StrCat(manifest.shards.size());
  json["fingerprint"] = manifest.fingerprint;
  json["valid"] = true;
  Listing listing({{.name = "name"},
                   {.name = "images", .right = true},
                   {.name = "shards", .right = true},
                   {.name = "valid"},
                   {.name = "fingerprint"},
                   {.name = "path"}});
  listing.Add(std::move(json), manifest.name,
              {manifest.name, CountCell(static_cast<int64_t>(manifest.count)), absl::StrCat(manifest.shards.size()),
               "yes", Cell(manifest.fingerprint.substr(0, 16), manifest.fingerprint), directory});
  P2_RETURN_IF_ERROR(context.Print(listing.FormatOne(context.style())));
  return kOk;
}

absl::StatusOr<int> Advise(Context& context, const AdviseFlags& flags) {
  P2_ASSIGN_OR_RETURN(const image::DatasetManifest manifest, image::LoadManifest(flags.directory));
  const DatasetAdvice advice = AdviseOn(manifest.count, manifest.resolution, flags.images_per_second);
  Json json;
  json["name"] = manifest.name;
  json["imageCount"] = absl::StrCat(manifest.count);
  json["resembles"] = advice.row;
  json["rowImageCount"] = absl::StrCat(advice.row_images);
  json["preset"] = advice.preset;
  json["gamma"] = advice.gamma;
  json["dropout"] = advice.dropout;
  json["images"] = absl::StrCat(advice.images);
  json["emaRate"] = advice.ema_rate;
  json["emaHalfLifeImages"] = absl::StrCat(advice.ema_half_life_images);
  if (advice.hours.has_value()) json["hours"] = *advice.hours;
  json["submit"] = advice.Command(manifest.name);
  json["notes"] = advice.notes;
  Listing listing({{.name = "name"},
                   {.name = "images", .right = true},
                   {.name = "resembles"},
                   {.name = "gamma", .right = true},
                   {.name = "dropout", .right = true},
                   {.name = "train", .right = true},
                   {.name = "ema", .right = true},
                   {.name = "half-life", .right = true},
                   {.name = "hours", .right = true}});
  listing.Add(std::move(json), manifest.name,
              {manifest.name, CountCell(static_cast<int64_t>(manifest.count)), advice.row, absl::StrCat(advice.gamma),
               absl::StrCat(advice.dropout), CountCell(advice.images), absl::StrCat(advice.ema_rate),
               CountCell(advice.ema_half_life_images),
               advice.hours.has_value() ? absl::StrFormat("%.1f", *advice.hours) : "?"});
  P2_RETURN_IF_ERROR(context.Print(listing.FormatOne(context.style())));
  for (const std::string& note : advice.notes) context.Say(note);
  context.Say(advice.Command(manifest.name));
  return kOk;
}

}  // namespace

void AddDataset(CLI::App& app, Context& context) {
  CLI::App* group = app.add_subcommand("dataset", "Prepared image sets");
  group->require_subcommand(1);
  auto prepare_flags = std::make_shared<PrepareFlags>();
  CLI::App* prepare =
      AddVerb(*group, context, "prepare",
              "Make a dataset of JPEG, PNG, WebP and GIF images, and register it; goes on where it was stopped",
              "  p2ctl dataset prepare ~/photos mine --resolution 256 --root local\n"
              "  p2ctl dataset prepare ffhq256.lmdb ffhq --resolution 256 --root /data/p2\n"
              "  p2ctl dataset prepare mnist.zip mnist --resolution 32 --channels 1 --root /data/p2",
              prepare_flags, Prepare);
  prepare
      ->add_option("INPUT", prepare_flags->input,
                   "Directory (searched recursively), .zip, .tar (.gz, .zst; or a directory of them), or LMDB")
      ->required();
  prepare->add_option("NAME", prepare_flags->name, "Name of the dataset")->required();
  prepare->add_option("--resolution", prepare_flags->resolution, "Height and width in pixels")
      ->required()
      ->check(CLI::Range(1, image::kMaxResolution));
  prepare->add_option("--root", prepare_flags->root, "Directory that is a storage root, or a root's name")->required();
  prepare->add_option("--channels", prepare_flags->channels, "3 (RGB) or 1 (grey)")
      ->capture_default_str()
      ->check(CLI::IsMember({1, 3}));
  prepare->add_option("--workers", prepare_flags->workers, "Decoding threads; 0: one a core")
      ->capture_default_str()
      ->check(CLI::Range(0, 256));
  prepare->add_flag("--exif", prepare_flags->exif,
                    "Turn images upright by their EXIF orientation (the paper's code does not)");
  prepare->add_option("--max-pixels", prepare_flags->limits.max_pixels, "Larger images are listed as unreadable")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, image::kMostPixels));
  prepare->add_option("--max-file-bytes", prepare_flags->limits.max_file_bytes, "Larger files are listed as unreadable")
      ->capture_default_str()
      ->check(CLI::Range(size_t{1}, image::kMostFileBytes));
  auto register_flags = std::make_shared<RegisterFlags>();
  CLI::App* enter = AddVerb(*group, context, "register", "Make a prepared dataset known to the server",
                            "  p2ctl dataset register /data/p2/datasets/mine", register_flags, RunRegister);
  enter->add_option("DIR", register_flags->directory, "What `dataset prepare` wrote, under a storage root")->required();
  enter->add_option("--name", register_flags->name, "Another name than it was prepared with");
  enter->add_option("--root", register_flags->root, "The root's name; default: what the workers call it");
  AddVerb(*group, context, "list", "List the registered datasets", "  p2ctl dataset list -o wide",
          std::make_shared<ListFlags>(), List);
  auto validate_flags = std::make_shared<ValidateFlags>();
  CLI::App* validate = AddVerb(*group, context, "validate",
                               "Read a dataset whole and compare every digest; exit code 12 if something differs",
                               "  p2ctl dataset validate /data/p2/datasets/mine\n  p2ctl dataset validate mine -o json",
                               validate_flags, Validate);
  validate->add_option("DATASET", validate_flags->dataset, "Its directory, or its name if its root is mounted here")
      ->required();
  auto advise_flags = std::make_shared<AdviseFlags>();
  CLI::App* advise =
      AddVerb(*group, context, "advise", "Propose how to train on a dataset: gamma, dropout, images, EMA, hours",
              "  p2ctl dataset advise /data/p2/datasets/mine --images-per-second 120", advise_flags, Advise);
  advise->add_option("DIR", advise_flags->directory, "What `dataset prepare` wrote")->required();
  advise
      ->add_option("--images-per-second", advise_flags->images_per_second,
                   "Measured rate of training, all devices together; gives the hours")
      ->check(CLI::PositiveNumber);
}

}  // namespace p2::ctl
