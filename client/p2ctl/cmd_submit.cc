// submit: makes a training job from a preset or a spec file.
#include "absl/strings/str_cat.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/source_ref.h"
#include "client/p2ctl/spec_file.h"
#include "client/p2ctl/submit_flow.h"
#include "common/spec/estimate.h"
#include "common/spec/resolve.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options : SubmitFlow {
  std::string preset, file, weight, dataset, seed, init_from, dry_run;
};

absl::StatusOr<v1::CreateJobRequest> MakeRequest(const Context& context, const Options& options) {
  v1::CreateJobRequest request;
  P2_RETURN_IF_ERROR(FillSpec("submit", options.preset, options.file, request));
  AddFlag(request, "--weight", "objective.weight", options.weight);
  AddFlag(request, "--dataset", "data.dataset", options.dataset);
  AddFlag(request, "--seed", "training.seed", options.seed);
  P2_RETURN_IF_ERROR(FillRequest(context, options, request));
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

absl::StatusOr<int> DryRun(Context& context, std::vector<v1::CreateJobRequest> requests, bool on_server) {
  int code = kOk;
  for (v1::CreateJobRequest& request : requests) {
    if (requests.size() > 1 && context.ForPeople()) context.PrintText(absl::StrCat(request.spec_file_name(), ":\n"));
    if (on_server) {
      P2_ASSIGN_OR_RETURN(Client * client, context.client());
      request.set_validate_only(true);
      P2_ASSIGN_OR_RETURN(code, FinishDryRun(context, client->CreateJob(request)));
    } else {
      P2_ASSIGN_OR_RETURN(code, FinishDryRun(context, ResolveHere(request)));
    }
  }
  return code;
}

absl::StatusOr<int> Run(Context& context, const Options& options) {
  P2_ASSIGN_OR_RETURN(v1::CreateJobRequest request, MakeRequest(context, options));
  const bool here = options.dry_run == "client";
  if (here && !options.init_from.empty()) context.Say("--init-from is looked up by the server: --dry-run=server");
  if (!here && !options.init_from.empty()) {
    P2_ASSIGN_OR_RETURN(*request.mutable_source(), InitSource(context, options.init_from));
  }
  const std::vector<v1::CreateJobRequest> requests = SplitDocuments(request);
  if (!options.dry_run.empty()) return DryRun(context, requests, !here);
  return requests.size() == 1 ? Submit(context, requests.front(), options) : SubmitAll(context, requests, options);
}

}  // namespace

void AddSubmit(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = AddVerb(app, context, "submit", "Make a training job from a preset or a spec file; prints its ID",
                           "  p2ctl submit mnist-demo --devices 2 --follow\n"
                           "  p2ctl submit own-256 --dataset mine --set training.learning_rate=2.5e-5\n"
                           "  p2ctl submit ffhq-gamma0.5 --weight 'pow(k+snr,-gamma)' --dry-run\n"
                           "  p2ctl submit -f my.yaml --label team=vision --wait && echo trained\n"
                           "  p2ctl submit own-256 --dataset mine --devices 2:8 --priority 10 --project faces\n"
                           "  p2ctl submit -f many.yaml   (a job for each document between `---`; all or none)\n"
                           "Exit: 0; with --wait or --follow 10 if the job FAILED, 11 if CANCELLED. Ctrl-C detaches "
                           "and never cancels the job.",
                           options, Run);
  verb->add_option("PRESET", options->preset, "Name of a preset (`p2ctl preset list`)");
  verb->add_option("-f,--file", options->file,
                   "Spec file (YAML) instead of a preset; several documents are several jobs")
      ->type_name("FILE");
  verb->add_option(
          "--weight", options->weight,
          "Scheme (p2, simple, vlb, min-snr, truncated-snr) or expression over snr, abar, t …: objective.weight")
      ->type_name("EXPR");
  verb->add_option("--dataset", options->dataset, "Registered dataset: data.dataset (`p2ctl dataset list`)")
      ->type_name("NAME");
  verb->add_option("--seed", options->seed, "Key of every random draw: training.seed")->type_name("N");
  verb->add_option("--init-from", options->init_from,
                   "Begin with the weights and averages of a checkpoint (JOB, JOB@IMAGES), or of a file or checkpoint "
                   "below a root (ROOT:PATH, or its path here): .pt, .safetensors, or a directory")
      ->type_name("CKPT");
  verb->add_flag(
          "--dry-run{client}", options->dry_run,
          "Resolve and check only: =client (default; needs no server) or =server (looks up the dataset too, and says "
          "when it would start)")
      ->check(CLI::IsMember({"client", "server"}).description(""));
  AddSubmitFlow(*verb, *options);
}

}  // namespace p2::ctl
