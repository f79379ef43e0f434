// fork, clone, extend: jobs made from other jobs.
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/source_ref.h"
#include "client/p2ctl/submit_flow.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options : SubmitFlow {
  v1::Lineage::Kind kind = v1::Lineage::KIND_UNSPECIFIED;
  std::string from, images;
  bool dry_run = false;
};

absl::StatusOr<int> Run(Context& context, const Options& options) {
  v1::CreateJobRequest request;
  AddFlag(request, "--images", "training.images", options.images);
  P2_RETURN_IF_ERROR(FillRequest(context, options, request));
  v1::DeriveFrom& from = *request.mutable_derive_from();
  from.set_kind(options.kind);
  if (options.kind == v1::Lineage::FORK) {
    P2_ASSIGN_OR_RETURN(*from.mutable_name(), CheckpointSource(context, options.from, At::kOrBefore));
    if (absl::StrContains(options.from, '@')) context.Say(absl::StrCat("it goes on from ", from.name()));
  } else {
    P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(options.from));
    from.set_name(job.name());
  }
  if (!options.dry_run) return Submit(context, request, options);
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  request.set_validate_only(true);
  return FinishDryRun(context, client->CreateJob(request));
}

CLI::App* Add(CLI::App& app, Context& context, const std::string& name, const std::string& help,
              const std::string& examples, const std::shared_ptr<Options>& options, v1::Lineage::Kind kind) {
  options->kind = kind;
  CLI::App* verb = AddVerb(app, context, name, help, examples, options, Run);
  verb->add_option("JOB", options->from,
                   kind == v1::Lineage::FORK ? "JOB (its newest checkpoint), JOB@IMAGES (the last one until there), or "
                                               "JOB/CHECKPOINT"
                                             : "ID, or a unique prefix")
      ->required();
  verb->add_flag("--dry-run", options->dry_run, "Let the server resolve and check only, and say when it would start");
  return verb;
}

}  // namespace

void AddDerive(CLI::App& app, Context& context) {
  const auto fork = std::make_shared<Options>(), clone = std::make_shared<Options>(),
             extend = std::make_shared<Options>();
  CLI::App* verb =
      Add(app, context, "fork",
          "A new job that goes on from a checkpoint of another, with changes: weights, averages, optimizer "
          "and position",
          "  p2ctl fork ffhq-abcde@400k --set objective.gamma=0.5 --follow\n"
          "  p2ctl fork ffhq-abcde/000000400000-e1 --set training.learning_rate=1e-5 --images 2M\n"
          "It keeps model, dataset, seed, batch and averages; to change those: "
          "`p2ctl submit … --init-from JOB`.",
          fork, v1::Lineage::FORK);
  verb->add_option("--images", fork->images, "Length of the run in images seen: training.images")->type_name("N");
  AddSubmitFlow(*verb, *fork);
  verb = Add(app, context, "clone", "A new job with the spec of another, from the beginning",
             "  p2ctl clone ffhq-abcde --set training.seed=2\n  p2ctl clone ffhq-abcde --devices 8 --dry-run", clone,
             v1::Lineage::CLONE);
  AddSubmitFlow(*verb, *clone);
  verb = Add(app, context, "extend", "A new job that goes on where one ended, with more images",
             "  p2ctl extend ffhq-abcde --images 20M --wait", extend, v1::Lineage::EXTEND);
  verb->add_option("--images", extend->images, "New length of the run in images seen, those seen already included")
      ->type_name("N")
      ->required();
  AddSubmitFlow(*verb, *extend);
}

}  // namespace p2::ctl
