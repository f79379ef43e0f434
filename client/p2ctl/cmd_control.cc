// stop, kill, pause, resume, delete: the verbs that change the state of jobs, one or many.
#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/job_filter.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/paging.h"
#include "client/p2ctl/submit_flow.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

using Verb = v1::ControlJobsRequest::Verb;

constexpr int kNamesShown = 20;

struct Options {
  Verb verb = v1::ControlJobsRequest::VERB_UNSPECIFIED;
  std::vector<std::string> jobs;
  std::string selector, user, states;
  std::string reason;
  // resume of one job.
  std::string devices;
  std::optional<int32_t> priority;

  bool selects() const { return !selector.empty() || !user.empty() || !states.empty(); }
  std::string name() const { return absl::AsciiStrToLower(v1::ControlJobsRequest::Verb_Name(verb)); }
};

// What became of a job, for people.
absl::string_view Done(Verb verb) {
  switch (verb) {
    case v1::ControlJobsRequest::STOP:
      return "asked to stop";
    case v1::ControlJobsRequest::KILL:
      return "killed";
    case v1::ControlJobsRequest::PAUSE:
      return "asked to pause";
    case v1::ControlJobsRequest::RESUME:
      return "queued";
    default:
      return "deleted";
  }
}

// The states in which a verb does something.
std::vector<v1::Job::State> Fitting(Verb verb) {
  switch (verb) {
    case v1::ControlJobsRequest::PAUSE:
      return {v1::Job::QUEUED, v1::Job::STARTING, v1::Job::RUNNING};
    case v1::ControlJobsRequest::RESUME:
      return {v1::Job::PAUSED};
    case v1::ControlJobsRequest::DELETE:
      return {v1::Job::CANCELLED, v1::Job::SUCCEEDED, v1::Job::FAILED};
    default:
      return {v1::Job::QUEUED,  v1::Job::STARTING, v1::Job::RUNNING,
              v1::Job::PAUSING, v1::Job::PAUSED,   v1::Job::CANCELLING};
  }
}

absl::StatusOr<v1::Job> ChangeOne(Context& context, const Options& options, const v1::Job& job) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  const auto change = [&](auto request, auto method) {
    request.set_name(job.name());
    request.set_request_id(context.flags.request_id);
    if constexpr (requires { request.set_reason(""); }) request.set_reason(options.reason);
    return (client->*method)(std::move(request));
  };
  switch (options.verb) {
    case v1::ControlJobsRequest::STOP:
      return change(v1::StopJobRequest(), &Client::StopJob);
    case v1::ControlJobsRequest::KILL:
      return change(v1::KillJobRequest(), &Client::KillJob);
    case v1::ControlJobsRequest::PAUSE:
      return change(v1::PauseJobRequest(), &Client::PauseJob);
    case v1::ControlJobsRequest::RESUME: {
      v1::ResumeJobRequest request;
      if (!options.devices.empty()) {
        P2_ASSIGN_OR_RETURN(const DeviceRange devices, ParseDevices(options.devices));
        request.set_devices(devices.max);
        request.set_min_devices(devices.min);
      }
      if (options.priority.has_value()) request.set_priority(*options.priority);
      return change(std::move(request), &Client::ResumeJob);
    }
    default:
      P2_RETURN_IF_ERROR(change(v1::DeleteJobRequest(), &Client::DeleteJob).status());
      return job;
  }
}

absl::StatusOr<int> RunOne(Context& context, const Options& options) {
  P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(options.jobs.front()));
  P2_ASSIGN_OR_RETURN(const v1::Job after, ChangeOne(context, options, job));
  if (options.verb == v1::ControlJobsRequest::DELETE) {
    context.Say(absl::StrCat("deleted ", IdOf(job.name())));
    if (context.ForPeople()) return kOk;
  }
  P2_RETURN_IF_ERROR(context.Print(JobListing({after}).FormatOne(context.style())));
  return kOk;
}

// Names, or the selector. The server knows no project among the latter: jobs of one are chosen here.
absl::StatusOr<v1::ControlJobsRequest> MakeRequest(Context& context, const Options& options) {
  v1::ControlJobsRequest request;
  request.set_verb(options.verb);
  request.set_reason(options.reason);
  request.set_request_id(context.flags.request_id);
  for (const std::string& ref : options.jobs) {
    P2_ASSIGN_OR_RETURN(const v1::Job job, context.ResolveJob(ref));
    if (std::count(request.names().begin(), request.names().end(), job.name()) == 0) request.add_names(job.name());
  }
  if (!options.jobs.empty()) return request;
  P2_ASSIGN_OR_RETURN(std::vector<v1::Job::State> states, ParseStates(options.states));
  if (states.empty()) states = Fitting(options.verb);
  if (context.flags.project.empty()) {
    request.set_label_selector(options.selector);
    request.set_owner(options.user);
    for (const v1::Job::State state : states) request.add_states(state);
    return request;
  }
  v1::ListJobsRequest list;
  list.set_label_selector(options.selector);
  list.set_owner(options.user);
  list.set_project(context.flags.project);
  for (const v1::Job::State state : states) list.add_states(state);
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const Page<v1::Job> page,
                      CollectPages(*client, &Client::ListJobs, &v1::ListJobsResponse::jobs, list));
  for (const v1::Job& job : page.items) request.add_names(job.name());
  return request;
}

// "stop 3 jobs: a b c".
std::string Deed(const Options& options, const v1::ControlJobsResponse& chosen) {
  const int shown = std::min(kNamesShown, chosen.names_size());
  std::string names = absl::StrJoin(chosen.names().begin(), chosen.names().begin() + shown, " ",
                                    [](std::string* out, const std::string& name) { out->append(IdOf(name)); });
  if (shown < chosen.names_size()) absl::StrAppend(&names, " and ", chosen.names_size() - shown, " more");
  return absl::StrCat(options.name(), " ", chosen.names_size(), chosen.names_size() == 1 ? " job: " : " jobs: ", names);
}

absl::StatusOr<int> RunMany(Context& context, const Options& options) {
  if (!options.devices.empty() || options.priority.has_value()) {
    return UsageError("--devices and --priority are for one job: `p2ctl resume JOB --devices N`");
  }
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(v1::ControlJobsRequest request, MakeRequest(context, options));
  v1::ControlJobsResponse chosen;
  if (options.selects()) {
    const bool none = !context.flags.project.empty() && request.names().empty();
    if (!none) {
      v1::ControlJobsRequest ask = request;
      ask.set_validate_only(true);
      P2_ASSIGN_OR_RETURN(chosen, client->ControlJobs(ask));
    }
    if (chosen.names().empty()) {
      return absl::NotFoundError(absl::StrCat("no job that it could ", options.name(), " matches"));
    }
    P2_ASSIGN_OR_RETURN(const bool yes, context.Confirm(Deed(options, chosen)));
    if (!yes) {
      context.Say("nothing was changed");
      return kError;
    }
  }
  P2_ASSIGN_OR_RETURN(const v1::ControlJobsResponse response, client->ControlJobs(request));
  Listing listing({{.name = "id"}, {.name = "done"}});
  for (const std::string& name : response.names()) {
    const std::string id = IdOf(name);
    listing.Add(Json{{"name", name}}, id, {id, std::string(Done(options.verb))});
  }
  P2_RETURN_IF_ERROR(context.PrintList(listing, "none of them had to be changed"));
  return kOk;
}

absl::StatusOr<int> Run(Context& context, const Options& options) {
  if (options.jobs.empty() == !options.selects()) {
    return UsageError("name jobs, or choose them with -l, --user or --state (not both)");
  }
  return options.jobs.size() == 1 ? RunOne(context, options) : RunMany(context, options);
}

CLI::App* Add(CLI::App& app, Context& context, Verb which, const std::string& help, const std::string& examples,
              bool reason, const std::shared_ptr<Options>& options = std::make_shared<Options>()) {
  options->verb = which;
  CLI::App* verb = AddVerb(app, context, options->name(), help, examples, options, Run);
  verb->add_option("JOB", options->jobs, "IDs, or unique prefixes; several: all or none");
  verb->add_option("-l,--selector", options->selector,
                   "Instead: all jobs with these labels (key=value,key!=value,key); asks first, --yes answers");
  verb->add_option("--user", options->user, "As -l, or beside it: this owner's");
  verb->add_option("--state", options->states, "As -l, or beside it: those in these states");
  if (reason) verb->add_option("--reason", options->reason, "Kept among the job's events");
  return verb;
}

}  // namespace

void AddControlVerbs(CLI::App& app, Context& context) {
  constexpr bool kReason = true;
  Add(app, context, v1::ControlJobsRequest::STOP, "Checkpoint, then end jobs (CANCELLED)",
      "  p2ctl stop mnist-demo-abcde --reason 'loss is flat'\n  p2ctl stop -l sweep=a --yes", kReason);
  Add(app, context, v1::ControlJobsRequest::KILL, "End jobs now, without a checkpoint (CANCELLED)",
      "  p2ctl kill mnist-demo-abcde\n  p2ctl kill -l sweep=a --yes", kReason);
  Add(app, context, v1::ControlJobsRequest::PAUSE, "Checkpoint, and give the devices back (PAUSED)",
      "  p2ctl pause mnist-demo-abcde\n  p2ctl pause --user ada --state RUNNING --yes", kReason);
  const auto options = std::make_shared<Options>();
  CLI::App* resume = Add(
      app, context, v1::ControlJobsRequest::RESUME, "Queue paused jobs again, from their newest good checkpoint",
      "  p2ctl resume mnist-demo-abcde\n  p2ctl resume mnist-demo-abcde --devices 4 --priority 10", !kReason, options);
  resume->add_option("--devices", options->devices, "Go on with so many, or elastic with MIN to MAX; one job only")
      ->type_name("N|MIN:MAX");
  resume->add_option("--priority", options->priority, "-1000 to 1000; the higher goes first; one job only")
      ->type_name("N");
  Add(app, context, v1::ControlJobsRequest::DELETE, "Delete ended jobs with all they wrote; pinned checkpoints stay",
      "  p2ctl delete mnist-demo-abcde\n  p2ctl delete -l sweep=a --yes", !kReason);
}

}  // namespace p2::ctl
