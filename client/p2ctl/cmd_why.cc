// why: what a job waits for, its place, and when it starts.
#include "absl/strings/str_cat.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/explanation_view.h"
#include "client/p2ctl/log_text.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options {
  std::string job;
};

Listing ExplanationListing(const v1::JobExplanation& explanation) {
  Listing listing({{.name = "id"},
                   {.name = "state"},
                   {.name = "reason"},
                   {.name = "position", .right = true},
                   {.name = "waiting", .right = true},
                   {.name = "starts"},
                   {.name = "message"}});
  const std::string id = IdOf(explanation.name());
  const bool reason = explanation.reason() != v1::STATUS_REASON_UNSPECIFIED;
  const bool waits = explanation.state() == v1::Job::QUEUED;
  listing.Add(ToJson(explanation), id,
              {id, v1::Job::State_Name(explanation.state()), reason ? v1::StatusReason_Name(explanation.reason()) : "",
               absl::StrCat(explanation.position()), absl::StrCat(explanation.waiting()),
               waits ? StartsText(explanation) : "", Cell(FirstLine(explanation.message()), explanation.message())});
  return listing;
}

absl::StatusOr<int> Run(Context& context, const Options& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::ExplainJobRequest request;
  request.set_name(FullName("jobs/", options.job));
  P2_ASSIGN_OR_RETURN(const v1::JobExplanation explanation, client->ExplainJob(request));
  if (context.ForPeople() && context.style().fields.empty()) {
    context.PrintText(ExplanationText(explanation, context.style().table));
    return kOk;
  }
  P2_RETURN_IF_ERROR(context.Print(ExplanationListing(explanation).FormatOne(context.style())));
  return kOk;
}

}  // namespace

void AddWhy(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = AddVerb(
      app, context, "why", "Why a job waits: its place, who is in the way, what helps, and when it starts",
      "  p2ctl why mnist-demo-abcde\n  p2ctl why mnist-demo-abcde -o json --fields reason,position,earliestSeconds",
      options, Run);
  verb->add_option("JOB", options->job, "ID, or a unique prefix")->required();
}

}  // namespace p2::ctl
