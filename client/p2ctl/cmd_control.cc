// stop, kill, pause, resume, delete: the verbs that change jobs.
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/p2ctl/command.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/paging.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

struct Options {
  std::vector<std::string> jobs;
  std::string selector;
  std::string reason;
  std::string ask;  // The verb, if it asks before it takes several jobs that a selector chose.
};

template <typename Request>
Request ChangeRequest(const Context& context, const std::string& job, size_t count) {
  Request request;
  request.set_name(job);
  request.set_request_id(context.RequestId(job, count));
  return request;
}

// The states in which a verb makes sense; a selector leaves out other jobs, a name does not.
using Fits = bool (*)(v1::Job::State);
bool IsLive(v1::Job::State state) { return !IsTerminal(state); }
bool IsPaused(v1::Job::State state) { return state == v1::Job::PAUSED; }

absl::StatusOr<std::vector<v1::Job>> Chosen(Context& context, const Options& options, Fits fits) {
  if (options.jobs.empty() == options.selector.empty()) {
    return UsageError("name jobs, or choose them with -l SELECTOR (not both)");
  }
  std::vector<v1::Job> jobs;
  for (const std::string& ref : options.jobs) {
    P2_ASSIGN_OR_RETURN(jobs.emplace_back(), context.ResolveJob(ref));
  }
  if (!options.selector.empty()) {
    P2_ASSIGN_OR_RETURN(Client * client, context.client());
    v1::ListJobsRequest request;
    request.set_label_selector(options.selector);
    P2_ASSIGN_OR_RETURN(Page<v1::Job> page,
                        CollectPages(*client, &Client::ListJobs, &v1::ListJobsResponse::jobs, request));
    jobs = std::move(page.items);
    std::erase_if(jobs, [fits](const v1::Job& job) { return !fits(job.state()); });
    if (jobs.empty())
      return absl::NotFoundError(absl::StrCat("no job in a fitting state matches -l ", options.selector));
  }
  return jobs;
}

// Changes all jobs, also after one has failed; the first failure decides the exit code. `rows`: show people the jobs as
// they stand then.
template <typename Change>
absl::StatusOr<int> ChangeAll(Context& context, const Options& options, Fits fits, bool rows, Change change) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(const std::vector<v1::Job> jobs, Chosen(context, options, fits));
  if (!options.ask.empty() && !options.selector.empty() && jobs.size() > 1) {
    const std::string names =
        absl::StrJoin(jobs, " ", [](std::string* out, const v1::Job& job) { out->append(IdOf(job.name())); });
    if (!context.Confirm(absl::StrCat(options.ask, " ", jobs.size(), " jobs: ", names, "?"))) {
      context.Say("nothing was changed");
      return kError;
    }
  }
  std::vector<v1::Job> changed;
  absl::Status first_error;
  for (const v1::Job& job : jobs) {
    absl::StatusOr<v1::Job> after = change(*client, job, jobs.size());
    if (after.ok()) {
      changed.push_back(*std::move(after));
    } else if (first_error.ok()) {
      first_error = after.status();
    } else {
      context.PrintError(after.status());
    }
  }
  if (!changed.empty() && (rows || !context.ForPeople())) {
    const Listing listing = JobListing(changed);
    P2_RETURN_IF_ERROR(
        context.Print(jobs.size() == 1 ? listing.FormatOne(context.style()) : listing.Format(context.style())));
  }
  if (!first_error.ok()) return first_error;
  return kOk;
}

// A verb whose request carries a reason.
template <typename Request, absl::StatusOr<v1::Job> (Client::*kMethod)(Request)>
absl::StatusOr<int> RunWithReason(Context& context, const Options& options) {
  return ChangeAll(context, options, IsLive, true, [&](Client& client, const v1::Job& job, size_t count) {
    Request request = ChangeRequest<Request>(context, job.name(), count);
    request.set_reason(options.reason);
    return (client.*kMethod)(std::move(request));
  });
}

absl::StatusOr<int> RunResume(Context& context, const Options& options) {
  return ChangeAll(context, options, IsPaused, true, [&](Client& client, const v1::Job& job, size_t count) {
    return client.ResumeJob(ChangeRequest<v1::ResumeJobRequest>(context, job.name(), count));
  });
}

absl::StatusOr<int> RunDelete(Context& context, const Options& options) {
  return ChangeAll(
      context, options, IsTerminal, false,
      [&](Client& client, const v1::Job& job, size_t count) -> absl::StatusOr<v1::Job> {
        P2_RETURN_IF_ERROR(client.DeleteJob(ChangeRequest<v1::DeleteJobRequest>(context, job.name(), count)).status());
        context.Say(absl::StrCat("deleted ", IdOf(job.name())));
        return job;
      });
}

CLI::App* Add(CLI::App& app, Context& context, const std::string& name, const std::string& help,
              const std::string& examples, absl::StatusOr<int> (*run)(Context&, const Options&), bool reason,
              bool asks = false) {
  auto options = std::make_shared<Options>();
  if (asks) options->ask = name;
  CLI::App* verb = AddVerb(app, context, name, help, examples, options, run);
  verb->add_option("JOB", options->jobs, "IDs, or unique prefixes");
  verb->add_option("-l,--selector", options->selector,
                   asks ? "Instead: all jobs with these labels; asks in a terminal (--yes: not)"
                        : "Instead: all jobs with these labels");
  if (reason) verb->add_option("--reason", options->reason, "Kept among the job's events");
  return verb;
}

}  // namespace

void AddControlVerbs(CLI::App& app, Context& context) {
  constexpr bool kReason = true, kAsks = true;
  Add(app, context, "stop", "Checkpoint, then end jobs (CANCELLED)",
      "  p2ctl stop mnist-demo-abcde --reason 'loss is flat'\n  p2ctl stop -l sweep=a",
      RunWithReason<v1::StopJobRequest, &Client::StopJob>, kReason);
  Add(app, context, "kill", "End jobs now, without a checkpoint (CANCELLED)",
      "  p2ctl kill mnist-demo-abcde\n  p2ctl kill -l sweep=a --yes",
      RunWithReason<v1::KillJobRequest, &Client::KillJob>, kReason, kAsks);
  Add(app, context, "pause", "Checkpoint, and give the devices back (PAUSED)", "  p2ctl pause mnist-demo-abcde",
      RunWithReason<v1::PauseJobRequest, &Client::PauseJob>, kReason);
  CLI::App* resume = Add(app, context, "resume", "Queue paused jobs again, from their newest good checkpoint",
                         "  p2ctl resume mnist-demo-abcde", RunResume, !kReason);
  AddLater(*resume, "--devices", true, "elastic jobs");
  AddLater(*resume, "--priority", true, "priorities and preemption");
  Add(app, context, "delete", "Delete ended jobs with all they wrote; pinned checkpoints stay",
      "  p2ctl delete mnist-demo-abcde\n  p2ctl delete -l sweep=a --yes", RunDelete, !kReason, kAsks);
}

}  // namespace p2::ctl
