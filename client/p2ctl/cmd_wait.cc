// wait: until jobs reach a state, a position or a value.
#include "absl/strings/str_cat.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/units.h"
#include "client/p2ctl/wait.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options {
  std::vector<std::string> jobs;
  std::string condition = "done";
  bool any = false;
  bool follow = false;  // What it does anyway: accepted because submit has it too.
  std::string timeout;
};

absl::StatusOr<int> Run(Context& context, const Options& options) {
  WaitOptions wait;
  P2_ASSIGN_OR_RETURN(wait.condition, WaitCondition::Parse(options.condition));
  wait.any = options.any;
  if (!options.timeout.empty()) {
    P2_ASSIGN_OR_RETURN(wait.timeout, ParseDuration(options.timeout));
  }
  std::vector<v1::Job> jobs;
  for (const std::string& ref : options.jobs) {
    P2_ASSIGN_OR_RETURN(jobs.emplace_back(), context.ResolveJob(ref));
  }
  P2_ASSIGN_OR_RETURN(const WaitResult result, WaitForJobs(context, jobs, wait));
  if (!context.ForPeople() && result.exit_code != kInterrupted) {
    const Listing listing = JobListing(result.jobs);
    P2_RETURN_IF_ERROR(
        context.Print(result.jobs.size() == 1 ? listing.FormatOne(context.style()) : listing.Format(context.style())));
  }
  return result.exit_code;
}

}  // namespace

void AddWait(CLI::App& app, Context& context) {
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      AddVerb(app, context, "wait", "Wait until jobs end, or reach a state, a position or a value",
              "  p2ctl wait mnist-demo-abcde                    until it has ended\n"
              "  p2ctl wait mnist-demo-abcde --for RUNNING\n"
              "  p2ctl wait A B --for images=500k --any --timeout 2h\n"
              "  p2ctl wait A --for 'metric:loss<=0.05'\n"
              "Exit: 0 met, 8 timed out, 10 a job FAILED, 11 a job was CANCELLED (also when that was waited for), "
              "6 a job will never meet it, 130 interrupted; Ctrl-C never cancels a job.",
              options, Run);
  verb->add_option("JOB", options->jobs, "IDs, or unique prefixes of them")->required();
  verb->add_option(
          "--for", options->condition,
          "done: any end. A state: RUNNING, PAUSED, SUCCEEDED … (once it SUCCEEDED it was RUNNING). images=500k: that "
          "many seen. metric:loss<=0.05 (or <, >=, >): a value so far")
      ->type_name("CONDITION")
      ->capture_default_str();
  verb->add_flag("--follow", options->follow, "Show a live line, as it does anyway (submit's flag; here for symmetry)");
  verb->add_flag("--any", options->any, "One job that meets it is enough");
  verb->add_option("--timeout", options->timeout, "Give up after this long (90s, 2h, 3d); exit 8");
}

}  // namespace p2::ctl
