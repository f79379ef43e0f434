// submit: makes a job from a preset or a spec file.
#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
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

// Where `text` stops being UTF-8 without NUL; npos: nowhere. Overlong forms and surrogates count as broken.
size_t FirstBadByte(absl::string_view text) {
  const auto byte = [text](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  size_t at = 0;
  while (at < text.size()) {
    const unsigned lead = byte(at), second = byte(at + 1);
    const size_t length = lead == 0     ? 0
                          : lead < 0x80 ? 1
                          : lead < 0xC2 ? 0
                          : lead < 0xE0 ? 2
                          : lead < 0xF0 ? 3
                          : lead < 0xF5 ? 4
                                        : 0;
    bool good = length > 0 && !(lead == 0xE0 && second < 0xA0) && !(lead == 0xED && second > 0x9F) &&
                !(lead == 0xF0 && second < 0x90) && !(lead == 0xF4 && second > 0x8F);
    for (size_t i = 1; i < length; ++i) good = good && (byte(at + i) & 0xC0) == 0x80;
    if (!good) return at;
    at += length;
  }
  return absl::string_view::npos;
}

absl::StatusOr<std::string> ReadText(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is a directory; -f takes a spec file (YAML)"));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read the spec file ", path));
  std::string text((std::istreambuf_iterator<char>(file)), {});
  if (text.size() > kMaxSpecBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has ", text.size(), " bytes; a spec has at most ", kMaxSpecBytes));
  }
  if (const size_t bad = FirstBadByte(text); bad != absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s is no text: byte 0x%02x at offset %d is %s; a spec is YAML in UTF-8", path,
                        static_cast<unsigned char>(text[bad]), bad, text[bad] == '\0' ? "NUL" : "not UTF-8"));
  }
  if (absl::StripAsciiWhitespace(text).empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is empty; the least that a spec says is `extends: PRESET`"));
  }
  return text;
}

absl::StatusOr<std::string> ReadSpec(const std::string& path) {
  absl::StatusOr<std::string> text = ReadText(path);
  if (!text.ok()) return WithReason(text.status(), "SPEC_UNREADABLE");
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
  if (!options.preset.empty() && !options.file.empty()) {
    return UsageError(absl::StrCat("both a preset (", options.preset, ") and a spec file (", options.file,
                                   ") are named; give one. A file builds on a preset with `extends: ", options.preset,
                                   "`"));
  }
  if (options.preset.empty() && options.file.empty()) {
    return UsageError(
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
      return UsageError(absl::StrCat("--set \"", set, "\": write path=value (training.batch=16)"));
    }
    request.add_overrides(set);
  }
  if (absl::StrContains(options.devices, ':')) {
    return WithReason(
        absl::InvalidArgumentError(
            absl::StrCat("--devices ", options.devices, ": elastic jobs (MIN:MAX) are not there yet; give one number")),
        "NOT_SUPPORTED_YET");
  }
  AddFlag(request, "--weight", "objective.weight", options.weight);
  AddFlag(request, "--dataset", "data.dataset", options.dataset);
  AddFlag(request, "--devices", "resources.devices", options.devices);
  AddFlag(request, "--seed", "training.seed", options.seed);
  request.set_name_prefix(options.name);
  for (const std::string& label : options.labels) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(label, absl::MaxSplits('=', 1));
    if (parts.first.empty() || !absl::StrContains(label, '=')) {
      return UsageError(absl::StrCat("--label \"", label, "\": write key=value"));
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

absl::Status PrintResponse(Context& context, const v1::CreateJobResponse& response) {
  const std::string id = IdOf(response.job().name());
  Listing listing({{.name = "id"}, {.name = "state"}});
  Json json = ToJson(response);
  // A dry run makes no job, so that it has no state.
  const bool made = response.job().state() != v1::Job::STATE_UNSPECIFIED;
  if (!made) json["job"].erase("state");
  listing.Add(std::move(json), id, {id, made ? v1::Job::State_Name(response.job().state()) : ""});
  return context.Print(listing.FormatOne(context.style()));
}

absl::Status PrintDryRun(Context& context, const v1::CreateJobResponse& response) {
  if (!context.ForPeople()) return PrintResponse(context, response);
  const v1::TrainingSpec& spec = response.job().spec();
  context.PrintText(absl::StrCat(
      "Spec (sha256 ", response.job().spec_sha256().substr(0, 12), "), with the origin of each value:\n",
      SpecText(spec, response.job().spec_origins(), context.style().table), "\n", EstimateText(response.estimate()),
      "Dataset:            ", spec.data().dataset().empty() ? "none named; give --dataset NAME" : spec.data().dataset(),
      " (", spec.model().image_size(), " px, ", spec.model().in_channels(),
      spec.model().in_channels() == 1 ? " channel" : " channels", ")\nNothing was submitted.\n"));
  return absl::OkStatus();
}

void SaySubmitted(const Context& context, const v1::Job& job) {
  const std::string id = IdOf(job.name());
  if (job.state() == v1::Job::PAUSED) {
    context.Say(absl::StrCat("submitted, PAUSED; `p2ctl resume ", id, "` queues it"));
    return;
  }
  context.Say(absl::StrCat("submitted; `p2ctl wait ", id, "` shows its progress, `p2ctl logs -f ", id, "` its logs"));
  if (job.state() == v1::Job::QUEUED && !job.message().empty()) context.Say(absl::StrCat("it waits: ", job.message()));
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
  if (context.ForPeople()) {
    context.PrintText(absl::StrCat(id, "\n"));
    if (!waits) SaySubmitted(context, response->job());
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
  if (!context.ForPeople() && context.style().format != OutputFormat::kName) {
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
  verb->add_option(
          "--weight", options->weight,
          "Scheme (p2, simple, vlb, min-snr, truncated-snr) or expression over snr, abar, t …: objective.weight")
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
      ->check(CLI::IsMember({"client", "server"}).description(""));
  CLI::Option* follow = verb->add_flag("--follow", options->follow, "Stay and show a live line until the job ends");
  verb->add_flag("--wait{done}", options->wait, "Stay until the job has ended, or =running: until it runs")
      ->check(CLI::IsMember({"running", "done"}).description(""))
      ->excludes(follow);
  AddLater(*verb, "--priority", true, "priorities and preemption");
  AddLater(*verb, "--init-from", true, "training on from another job's checkpoint");
  verb->add_flag("--paused", options->paused, "Make it PAUSED; `p2ctl resume` queues it");
}

}  // namespace p2::ctl
