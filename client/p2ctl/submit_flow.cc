#include "client/p2ctl/submit_flow.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/p2ctl/explanation_view.h"
#include "client/p2ctl/job_view.h"
#include "client/p2ctl/wait.h"
#include "common/status_macros.h"

namespace p2::ctl {
namespace {

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
      spec.model().in_channels() == 1 ? " channel" : " channels", ")\n",
      response.has_forecast() ? absl::StrCat("\n", ForecastText(response.forecast(), context.style().table), "\n") : "",
      "Nothing was submitted.\n"));
  return absl::OkStatus();
}

void SaySubmitted(const Context& context, const v1::Job& job) {
  const std::string id = IdOf(job.name());
  if (job.state() == v1::Job::PAUSED) {
    context.Say(absl::StrCat("submitted, PAUSED; `p2ctl resume ", id, "` queues it"));
    return;
  }
  context.Say(absl::StrCat("submitted; `p2ctl wait ", id, "` shows its progress, `p2ctl logs -f ", id, "` its logs"));
  if (job.state() == v1::Job::QUEUED && !job.message().empty()) {
    context.Say(absl::StrCat("it waits: ", job.message(), "; `p2ctl why ", id, "` tells more"));
  }
}

absl::StatusOr<WaitResult> StayFor(Context& context, const std::vector<v1::Job>& jobs, const SubmitFlow& options) {
  WaitOptions wait;
  P2_ASSIGN_OR_RETURN(wait.condition,
                      WaitCondition::Parse(options.wait == "running" && !options.follow ? "RUNNING" : "done"));
  wait.live = options.follow;
  return WaitForJobs(context, jobs, wait);
}

}  // namespace

void AddFlag(v1::CreateJobRequest& request, const std::string& flag, const std::string& path,
             const std::string& value) {
  if (value.empty()) return;
  v1::FlagOverride* override_value = request.add_flags();
  override_value->set_flag(flag);
  override_value->set_path(path);
  override_value->set_value(value);
}

absl::StatusOr<DeviceRange> ParseDevices(const std::string& text) {
  DeviceRange range;
  const size_t colon = text.find(':');
  const bool elastic = colon != std::string::npos;
  const bool numbers = absl::SimpleAtoi(elastic ? text.substr(colon + 1) : text, &range.max) &&
                       (!elastic || absl::SimpleAtoi(text.substr(0, colon), &range.min));
  if (!numbers || range.max < 1 || (elastic && (range.min < 1 || range.min > range.max))) {
    return UsageError(absl::StrCat("--devices \"", text, "\": write N, or MIN:MAX (2:8) for an elastic job"));
  }
  return range;
}

absl::Status FillRequest(const Context& context, const SubmitFlow& options, v1::CreateJobRequest& request) {
  for (const std::string& set : options.sets) {
    if (!absl::StrContains(set, '=')) {
      return UsageError(absl::StrCat("--set \"", set, "\": write path=value (training.batch=16)"));
    }
    request.add_overrides(set);
  }
  if (!options.devices.empty()) {
    P2_ASSIGN_OR_RETURN(const DeviceRange devices, ParseDevices(options.devices));
    AddFlag(request, "--devices", "resources.devices", absl::StrCat(devices.max));
    AddFlag(request, "--devices", "resources.min_devices", absl::StrCat(devices.min));
  }
  request.set_name_prefix(options.name);
  request.set_queue(FullName("queues/", options.queue));
  request.set_project(context.flags.project);
  request.set_priority(options.priority.value_or(0));
  request.set_note(options.note);
  for (const std::string& label : options.labels) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(label, absl::MaxSplits('=', 1));
    if (parts.first.empty() || !absl::StrContains(label, '=')) {
      return UsageError(absl::StrCat("--label \"", label, "\": write key=value"));
    }
    (*request.mutable_labels())[parts.first] = parts.second;
  }
  request.set_request_id(context.flags.request_id);
  request.set_paused(options.paused);
  return absl::OkStatus();
}

absl::StatusOr<int> Submit(Context& context, const v1::CreateJobRequest& request, const SubmitFlow& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  P2_ASSIGN_OR_RETURN(v1::CreateJobResponse response, client->CreateJob(request));
  for (const std::string& warning : response.warnings()) context.Say(absl::StrCat("warning: ", warning));
  const std::string id = IdOf(response.job().name());
  const bool waits = options.follow || !options.wait.empty();
  // People and `-o name` get the ID at once; a document waits for what it tells.
  if (context.ForPeople()) {
    context.PrintText(absl::StrCat(id, "\n"));
    if (!waits) SaySubmitted(context, response.job());
  } else if (!waits || context.style().format == OutputFormat::kName) {
    P2_RETURN_IF_ERROR(PrintResponse(context, response));
  }
  if (!waits) return kOk;
  P2_ASSIGN_OR_RETURN(const WaitResult result, StayFor(context, {response.job()}, options));
  *response.mutable_job() = result.jobs.front();
  if (!context.ForPeople() && context.style().format != OutputFormat::kName) {
    P2_RETURN_IF_ERROR(PrintResponse(context, response));
  }
  return result.exit_code;
}

absl::StatusOr<int> SubmitAll(Context& context, const std::vector<v1::CreateJobRequest>& requests,
                              const SubmitFlow& options) {
  P2_ASSIGN_OR_RETURN(Client * client, context.client());
  v1::BatchCreateJobsRequest batch;
  batch.set_request_id(context.flags.request_id);
  for (const v1::CreateJobRequest& request : requests) {
    *batch.add_requests() = request;
    batch.mutable_requests()->rbegin()->clear_request_id();
  }
  P2_ASSIGN_OR_RETURN(const v1::BatchCreateJobsResponse response, client->BatchCreateJobs(batch));
  const std::vector<v1::Job> jobs(response.jobs().begin(), response.jobs().end());
  const bool waits = options.follow || !options.wait.empty();
  const bool names = context.style().format == OutputFormat::kName;
  if (context.ForPeople()) {
    for (const v1::Job& job : jobs) context.PrintText(absl::StrCat(IdOf(job.name()), "\n"));
    if (!waits) context.Say(absl::StrCat("submitted ", jobs.size(), " jobs; `p2ctl list` shows them"));
  } else if (!waits || names) {
    P2_RETURN_IF_ERROR(context.Print(JobListing(jobs).Format(context.style())));
  }
  if (!waits) return kOk;
  P2_ASSIGN_OR_RETURN(const WaitResult result, StayFor(context, jobs, options));
  if (!context.ForPeople() && !names) {
    P2_RETURN_IF_ERROR(context.Print(JobListing(result.jobs).Format(context.style())));
  }
  return result.exit_code;
}

absl::StatusOr<int> FinishDryRun(Context& context, const absl::StatusOr<v1::CreateJobResponse>& response) {
  if (!response.ok()) return response.status();
  for (const std::string& warning : response->warnings()) context.Say(absl::StrCat("warning: ", warning));
  P2_RETURN_IF_ERROR(PrintDryRun(context, *response));
  return kOk;
}

void AddSubmitFlow(CLI::App& verb, SubmitFlow& flow) {
  verb.add_option("--set", flow.sets, "Lay a value over the spec: training.batch=16; repeatable, the last wins")
      ->type_name("PATH=VALUE")
      ->allow_extra_args(false);
  verb.add_option("--name", flow.name, "Start of the job's ID; default: what it is made from");
  verb.add_option("--devices", flow.devices,
                  "Devices, one rank each: resources.devices; MIN:MAX: elastic, it starts with MIN if need be")
      ->type_name("N|MIN:MAX");
  verb.add_option("--queue", flow.queue, "Queue, which says on which workers it may run (`p2ctl queue list`)");
  verb.add_option("--priority", flow.priority, "-1000 to 1000; the higher goes first. Default: 0")->type_name("N");
  verb.add_option("--note", flow.note, "For people; `p2ctl describe` shows it")->type_name("TEXT");
  verb.add_option("--label", flow.labels, "Label of the job; repeatable")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  CLI::Option* follow = verb.add_flag("--follow", flow.follow, "Stay and show a live line until the job ends");
  verb.add_flag("--wait{done}", flow.wait, "Stay until the job has ended, or =running: until it runs")
      ->check(CLI::IsMember({"running", "done"}).description(""))
      ->excludes(follow);
  verb.add_flag("--paused", flow.paused, "Make it PAUSED; `p2ctl resume` queues it");
}

}  // namespace p2::ctl
