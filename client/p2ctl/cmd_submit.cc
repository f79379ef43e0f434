// submit: makes a job from a preset or a spec file.
#include <fstream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/wait.h"
#include "common/spec/estimate.h"
#include "common/spec/resolve.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options {
  std::string preset, file, weight, name, dataset, devices, seed;
  std::vector<std::string> sets, labels;
  std::string dry_run, wait;
  bool follow = false, paused = false;
};

constexpr size_t kMaxSpecBytes = 256 << 10;

absl::StatusOr<std::string> ReadSpec(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read the spec file ", path));
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (text.size() > kMaxSpecBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", text.size(), " bytes; a spec has at most ", kMaxSpecBytes));
  }
  return text;
}

void AddFlag(v1::CreateJobRequest& request, const std::string& flag, const std::string& path,
             const std::string& value) {
  if (value.empty()) return;
  v1::FlagOverride* override_value = request.add_flags();
  override_value->set_flag(flag);
  override_value->set_path(path);
  override_value->set_value(value);
}

absl::StatusOr<v1::CreateJobRequest> MakeRequest(const Context& context, const Options& options) {
  v1::CreateJobRequest request;
  if (options.preset.empty() == options.file.empty()) {
    return absl::InvalidArgumentError(
        "name a preset or a spec file: p2ctl submit PRESET, or p2ctl submit -f FILE "
        "(`p2ctl preset list` shows the presets)");
  }
  request.set_preset(options.preset);
  if (!options.file.empty()) {
    P2_ASSIGN_OR_RETURN(*request.mutable_spec_yaml(), ReadSpec(options.file));
    request.set_spec_file_name(IdOf(options.file));
  }
  for (const std::string& set : options.sets) {
    if (!absl::StrContains(set, '=')) {
      return absl::InvalidArgumentError(absl::StrCat("--set \"", set, "\": write path=value (training.batch=16)"));
    }
    request.add_overrides(set);
  }
  if (absl::StrContains(options.devices, ':')) {
    return absl::InvalidArgumentError(
        absl::StrCat("--devices ", options.devices, ": elastic jobs (MIN:MAX) are not supported yet; give one number"));
  }
  AddFlag(request, "--weight", "objective.weight", options.weight);
  AddFlag(request, "--dataset", "data.dataset", options.dataset);
  AddFlag(request, "--devices", "resources.devices", options.devices);
  AddFlag(request, "--seed", "training.seed", options.seed);
  request.set_name_prefix(options.name);
  for (const std::string& label : options.labels) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(label, absl::MaxSplits('=', 1));
    if (parts.first.empty() || !absl::StrContains(label, '=')) {
      return absl::InvalidArgumentError(absl::StrCat("--label \"", label, "\": write key=value"));
    }
    (*request.mutable_labels())[parts.first] = parts.second;
  }
  request.set_request_id(context.flags.request_id);
  request.set_paused(options.paused);
  request.set_validate_only(!options.dry_run.empty());
  return request;
}

// What the server would answer, without one: no dataset is looked up.
absl::StatusOr<v1::CreateJobResponse> ResolveHere(const v1::CreateJobRequest& request) {
  spec::ResolveRequest resolve;
  resolve.preset = request.preset();
  resolve.file_yaml = request.spec_yaml();
  if (!request.spec_file_name().empty()) resolve.file_name = request.spec_file_name();
  resolve.require_dataset = false;
  for (const std::string& text : request.overrides()) {
    P2_ASSIGN_OR_RETURN(resolve.overrides.emplace_back(), spec::ParseOverride(text));
  }
  for (const v1::FlagOverride& flag : request.flags())
    resolve.overrides.push_back({flag.path(), flag.value(), flag.flag()});
  P2_ASSIGN_OR_RETURN(const spec::ResolvedSpec resolved, spec::Resolve(resolve));
  v1::CreateJobResponse response;
  *response.mutable_job()->mutable_spec() = resolved.spec;
  response.mutable_job()->set_preset(request.preset());
  response.mutable_job()->set_spec_sha256(resolved.sha256);
  response.mutable_job()->mutable_spec_origins()->insert(resolved.origins.begin(), resolved.origins.end());
  for (const std::string& warning : resolved.warnings) response.add_warnings(warning);
  P2_ASSIGN_OR_RETURN(*response.mutable_estimate(), spec::EstimateResources(resolved.spec));
  return response;
}

bool ForPeople(const Context& context) {
  return context.style().format == OutputFormat::kTable || context.style().format == OutputFormat::kWide;
}

absl::Status PrintResponse(Context& context, const v1::CreateJobResponse& response) {
  const std::string id = IdOf(response.job().name());
  Listing listing({{.name = "id"}, {.name = "state"}});
  listing.Add(ToJson(response), id, {id, v1::Job::State_Name(response.job().state())});
  return context.Print(listing.FormatOne(context.style()));
}

absl::Status PrintDryRun(Context& context, const v1::CreateJobResponse& response) {
  if (!ForPeople(context)) return PrintResponse(context, response);
  const v1::TrainingSpec& spec = response.job().spec();
  context.PrintText(absl::StrCat(
      "Spec (sha256 ", response.job().spec_sha256().substr(0, 12), "), with the origin of each value:\n",
      SpecText(spec, response.job().spec_origins(), context.style().table), "\n", EstimateText(response.estimate()),
      "Dataset:            ", spec.data().dataset().empty() ? "none named; give --dataset NAME" : spec.data().dataset(),
      " (", spec.model().image_size(), " px, ", spec.model().in_channels(),
      spec.model().in_channels() == 1 ? " channel" : " channels", ")\nNothing was submitted.\n"));
  return absl::OkStatus();
}

absl::StatusOr<int> Run(Context& context, const Options& options) {
  P2_ASSIGN_OR_RETURN(const v1::CreateJobRequest request, MakeRequest(context, options));
  absl::StatusOr<v1::CreateJobResponse> response;
  if (options.dry_run == "client") {
    response = ResolveHere(request);
  } else {
    P2_ASSIGN_OR_RETURN(Client * client, context.client());
    response = client->CreateJob(request);
  }
  if (!response.ok()) return response.status();
  for (const std::string& warning : response->warnings()) context.Say(absl::StrCat("warning: ", warning));
  if (!options.dry_run.empty()) {
    P2_RETURN_IF_ERROR(PrintDryRun(context, *response));
    return kOk;
  }
  const std::string id = IdOf(response->job().name());
  const bool waits = options.follow || !options.wait.empty();
  // People and `-o name` get the ID at once; a document waits for what it tells.
  if (ForPeople(context)) {
    context.PrintText(absl::StrCat(id, "\n"));
    if (!waits)
      context.Say(
          absl::StrCat("submitted; `p2ctl wait ", id, "` shows its progress, `p2ctl logs -f ", id, "` its logs"));
  } else if (!waits || context.style().format == OutputFormat::kName) {
    P2_RETURN_IF_ERROR(PrintResponse(context, *response));
  }
  if (!waits) return kOk;
  WaitOptions wait;
  P2_ASSIGN_OR_RETURN(wait.condition,
                      WaitCondition::Parse(options.wait == "running" && !options.follow ? "RUNNING" : "done"));
  wait.live = options.follow;
  P2_ASSIGN_OR_RETURN(const WaitResult result, WaitForJobs(context, {response->job()}, wait));
  *response->mutable_job() = result.jobs.front();
  if (!ForPeople(context) && context.style().format != OutputFormat::kName) {
    P2_RETURN_IF_ERROR(PrintResponse(context, *response));
  }
  return result.exit_code;
}

}  // namespace

void AddSubmit(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = AddVerb(app, context, "submit", "Make a training job from a preset or a spec file; prints its ID",
                           "  p2ctl submit mnist-demo --devices 2 --follow\n"
                           "  p2ctl submit own-256 --dataset mine --set training.learning_rate=2.5e-5\n"
                           "  p2ctl submit ffhq-gamma0.5 --weight 'pow(k+snr,-gamma)' --dry-run\n"
                           "  p2ctl submit -f my.yaml --label team=vision --wait && echo trained\n"
                           "Exit: 0; with --wait or --follow 10 if the job FAILED, 11 if CANCELLED. Ctrl-C detaches "
                           "and never cancels the job.",
                           options, Run);
  verb->add_option("PRESET", options->preset, "Name of a preset (`p2ctl preset list`)");
  verb->add_option("-f,--file", options->file, "Spec file (YAML) instead of a preset")->type_name("FILE");
  verb->add_option("--set", options->sets, "Lay a value over the spec: training.batch=16; repeatable, the last wins")
      ->type_name("PATH=VALUE")
      ->allow_extra_args(false);
  verb->add_option("--weight", options->weight,
                   "Scheme (p2, simple, vlb) or expression over snr, abar, t …: objective.weight")
      ->type_name("EXPR");
  verb->add_option("--name", options->name, "Start of the job's ID; default: the preset's name");
  verb->add_option("--devices", options->devices, "Devices, one rank each: resources.devices")->type_name("N");
  verb->add_option("--dataset", options->dataset, "Registered dataset: data.dataset (`p2ctl dataset list`)")
      ->type_name("NAME");
  verb->add_option("--seed", options->seed, "Key of every random draw: training.seed")->type_name("N");
  verb->add_option("--label", options->labels, "Label of the job; repeatable")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  verb->add_flag("--dry-run{client}", options->dry_run,
                 "Resolve and check only: =client (default; needs no server) or =server (looks up the dataset too)")
      ->check(CLI::IsMember({"client", "server"}));
  CLI::Option* follow = verb->add_flag("--follow", options->follow, "Stay and show a live line until the job ends");
  verb->add_flag("--wait{done}", options->wait, "Stay until the job has ended, or =running: until it runs")
      ->check(CLI::IsMember({"running", "done"}))
      ->excludes(follow);
  verb->add_flag("--paused", options->paused, "Make it PAUSED; `p2ctl resume` queues it");
}

}  // namespace p2::ctl
