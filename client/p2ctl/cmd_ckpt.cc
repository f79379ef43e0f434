// ckpt pin|unpin|delete|gc: which checkpoints stay.
#include "absl/strings/str_cat.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/source_ref.h"
#include "client/p2ctl/units.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options {
  std::string checkpoint, note;
};
struct CollectOptions {
  std::string job;
  bool dry_run = false;
};

absl::StatusOr<int> SetPin(Context& context, const Options& options, bool pinned) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::PinCheckpointRequest request;
  P2_ASSIGN_OR_RETURN(*request.mutable_name(), CheckpointName(context, options.checkpoint));
  request.set_pinned(pinned);
  request.set_note(options.note);
  request.set_request_id(context.flags.request_id);
  P2_ASSIGN_OR_RETURN(const v1::Checkpoint checkpoint, client->PinCheckpoint(request));
  P2_RETURN_IF_ERROR(context.Print(CheckpointListing({checkpoint}).FormatOne(context.style())));
  return kOk;
}

absl::StatusOr<int> Pin(Context& context, const Options& options) { return SetPin(context, options, true); }
absl::StatusOr<int> Unpin(Context& context, const Options& options) { return SetPin(context, options, false); }

absl::StatusOr<int> Delete(Context& context, const Options& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::DeleteCheckpointRequest request;
  P2_ASSIGN_OR_RETURN(*request.mutable_name(), CheckpointName(context, options.checkpoint));
  request.set_request_id(context.flags.request_id);
  P2_RETURN_IF_ERROR(client->DeleteCheckpoint(request).status());
  context.Say(absl::StrCat("deleted ", request.name()));
  return kOk;
}

absl::StatusOr<int> Collect(Context& context, const CollectOptions& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(options.job));
  v1::CollectCheckpointsRequest request;
  request.set_parent(job.name());
  request.set_validate_only(options.dry_run);
  request.set_request_id(context.flags.request_id);
  P2_ASSIGN_OR_RETURN(const v1::CollectCheckpointsResponse response, client->CollectCheckpoints(request));
  Listing listing(
      {{.name = "id"}, {.name = "verdict"}, {.name = "size", .right = true}, {.name = "why", .truncate = true}});
  int64_t freed = 0, gone = 0;
  for (const v1::CollectCheckpointsResponse::Verdict& verdict : response.verdicts()) {
    const std::string id = IdOf(verdict.name());
    const std::string word = verdict.keep() ? "keep" : "go";
    listing.Add(ToJson(verdict), id,
                {id, Cell(word, word, verdict.keep() ? "" : "yellow"), BytesCell(verdict.size_bytes()), verdict.why()});
    if (verdict.keep()) continue;
    ++gone;
    freed += verdict.size_bytes();
  }
  P2_RETURN_IF_ERROR(context.PrintList(listing, absl::StrCat("job ", IdOf(job.name()), " has no checkpoints")));
  if (!listing.empty() && context.ForPeople()) {
    context.Say(absl::StrCat(options.dry_run ? "would delete " : "deleted ", gone, " of ", response.verdicts_size(),
                             ", ", FormatBytes(freed)));
  }
  return kOk;
}

CLI::App* Add(CLI::App& ckpt, Context& context, const std::string& name, const std::string& help,
              const std::string& example, const std::shared_ptr<Options>& options,
              absl::StatusOr<int> (*run)(Context&, const Options&)) {
  CLI::App* verb =
      AddVerb(ckpt, context, name, help,
              absl::StrCat("  p2ctl ckpt ", name, " mnist-demo-abcde/000000012800-e1", example), options, run);
  verb->add_option("CHECKPOINT", options->checkpoint, "JOB/CHECKPOINT, or JOB@IMAGES")->required();
  return verb;
}

}  // namespace

void AddCheckpointVerbs(CLI::App& ckpt, Context& context) {
  const auto pin = std::make_shared<Options>(), unpin = std::make_shared<Options>(),
             remove = std::make_shared<Options>();
  Add(ckpt, context, "pin", "Keep a checkpoint, also when its job is deleted", " --note 'best FID'", pin, Pin)
      ->add_option("--note", pin->note, "Why, for people")
      ->type_name("TEXT");
  Add(ckpt, context, "unpin", "Take a pin away", "", unpin, Unpin);
  Add(ckpt, context, "delete", "Delete a checkpoint that is not pinned and that nothing needs", "", remove, Delete);
  const auto options = std::make_shared<CollectOptions>();
  CLI::App* verb =
      AddVerb(ckpt, context, "gc", "Delete what a job's retention no longer keeps, and say why others stay",
              "  p2ctl ckpt gc mnist-demo-abcde --dry-run\n  p2ctl ckpt gc mnist-demo-abcde\n"
              "What stays: checkpoint.keep_last, keep_every_images, keep_best, pins, and what jobs start from.",
              options, Collect);
  verb->add_option("JOB", options->job, "ID, or a unique prefix")->required();
  verb->add_flag("--dry-run", options->dry_run, "Only say what would go");
}

}  // namespace p2::ctl
